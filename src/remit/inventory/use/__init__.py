"""Who uses it, from where, and since when not: what logs and live sessions tell of identities and credentials.

model       what a record of a log says, and what is kept of many
sketch      the consumers that count most, in bounded memory
tally       many uses → one row for each name
readers     one kind of log each: a record → uses
logs        files, rotated and compressed ones, read once and on from where the last run stopped
judge       rows → dormant, shared, across environments, by a person
"""
