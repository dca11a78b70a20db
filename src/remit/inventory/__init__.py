"""What exists? Every non-human identity of the connected systems, its credentials, and what they reach.

model, records, ports     facts as sources say them; records as the registry keeps them; the rows that it needs
connectors                one file for each system that is read: raw records → facts
secrets                   secrets that lie about: sources → engine → binding → facts
registry, batch, settle   facts of many sources → one record of each thing; what counts where they disagree
joins                     why names are one identity; split and joined by hand
marks, readings           what a connector remembers; how and when a source is read again, and what a run changed
owners                    who seems to answer for what a file declares
use                       who used what, when and from where, by logs and live sessions
graph                     what reaches what: the blast radius
coverage, exports         how much is seen; the inventory in the forms that others read

Below: `providers`, `ledger`, `kernel`.
"""
