"""`remit`: the table of commands. Nothing of Remit is imported before the chosen command needs it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cyclopts import App, CycloptsError
    from rich.text import Text

_HERE: Final = "remit.surface.cli.commands"
ABOUT: Final = (
    "Find every machine identity, bind it to an owner, prove it, decide each request, issue for one task, "
    "revoke and prove it."
)
EPILOGUE: Final = (
    "Start with `remit tour`. Every command takes --data DIR (or REMIT_DATA); `remit COMMAND --help` says more."
)
GROUPS: Final = (
    "Run",
    "What exists?",
    "Who is it?",
    "What may it do?",
    "What then?",
    "Who answers?",
    "How is it proved?",
)
COMMANDS: Final[tuple[tuple[str, str, str, str], ...]] = (
    # path, function, group, help
    ("up", "server:up", "Run", "Run the control plane, the agent and the console in one process."),
    ("serve", "server:serve", "Run", "Run the control plane and the console, without the agent."),
    ("console", "server:console", "Run", "Print a sign-in link for the console (good once, for 60 seconds)."),
    ("doctor", "server:doctor", "Run", "Check this installation, and say what to do about what is wrong."),
    ("keys rotate", "keys:rotate", "Run", "Make new keys of this installation, and seal everything with them."),
    ("demo", "demo:demo", "Run", "Two minutes: a leak, leases, a rogue agent, a crash; or `demo agent`."),
    ("tour", "server:tour", "Run", "Start, discover this machine, say what is wrong and what to do next."),
    ("discover files", "discover:files", "What exists?", "Scan a directory tree or a home directory."),
    ("discover kubernetes", "discover:kubernetes", "What exists?", "Read Kubernetes: its API, or manifests."),
    ("discover aws", "discover:aws", "What exists?", "Read an AWS account: an authorization-details file, or `live`."),
    ("discover postgres", "discover:postgres", "What exists?", "Read a PostgreSQL server: a target's name, or a URL."),
    ("discover mariadb", "discover:mariadb", "What exists?", "Read a MariaDB server: a target's name, or a URL."),
    ("discover redis", "discover:redis", "What exists?", "Read a Redis server: a target's name, or a URL."),
    ("discover rabbitmq", "discover:rabbitmq", "What exists?", "Read a RabbitMQ cluster: a target's name, or a URL."),
    ("discover nats", "discover:nats", "What exists?", "Read NATS: the directory of a resolver, or the store of nsc."),
    ("discover openbao", "discover:openbao", "What exists?", "Read an OpenBao: a target's name, or its address."),
    ("scan", "scan:scan", "What exists?", "Look for secrets in files, in what is staged, in history; needs no server."),
    ("discover use", "discover:use", "What exists?", "Read logs: who used what, when and from where."),
    ("discover terraform", "discover:terraform", "What exists?", "Read Terraform states, plans and configurations."),
    ("discover github", "discover:github", "What exists?", "Read a GitHub organisation or repository."),
    ("discover gitlab", "discover:gitlab", "What exists?", "Read a GitLab group or project."),
    ("discover docker", "discover:docker", "What exists?", "Read Dockerfiles, compose files, image archives, or a Docker engine."),
    ("discover google", "discover:google", "What exists?", "Read what Google Cloud's command line exported."),
    ("discover azure", "discover:azure", "What exists?", "Read what Azure's command line exported."),
    ("discover ldap", "discover:ldap", "What exists?", "Read an LDAP directory: a target's name, or a URL."),
    ("discover ssh", "discover:ssh", "What exists?", "Read what an sshd admits: `local`, or ssh://USER@HOST."),
    ("discover tls", "discover:tls", "What exists?", "Look at TLS endpoints that you name: HOST:PORT, or a file of them."),
    ("discover host", "discover:host", "What exists?", "Read a host: units, jobs, sudo, accounts, what runs."),
    ("discover all", "discover:all_", "What exists?", "Read every known source again."),
    ("discover import", "discover:import", "What exists?", "Read a file in Remit's own form: any other system."),
    ("connectors", "discover:connectors", "What exists?", "What each connector sees, needs, and cannot see."),
    ("sources", "sources:sources", "What exists?", "The sources that were read, and what could not be seen."),
    ("source schedule", "sources:schedule", "What exists?", "Let a source be read by itself, every so often."),
    ("source diff", "sources:diff", "What exists?", "What the last run of a source changed."),
    ("source read", "sources:read", "What exists?", "Read a source again, as it was read last."),
    ("coverage", "coverage:coverage", "What exists?", "How much is seen: systems named and not read, blind spots."),
    ("export", "exports:export", "What exists?", "The whole inventory for other tools: CSV, OCSF, BloodHound OpenGraph."),
    ("ls", "inventory:ls", "What exists?", "List identities and credentials."),
    ("show", "inventory:show", "What exists?", "Everything known of one identity, with the sources."),
    ("resource ls", "resources:resource_ls", "What exists?", "List resources, and how sensitive each is."),
    ("resource classify", "resources:classify", "What exists?", "Say how sensitive resources are; signed by you."),
    ("identity joins", "identity:joins", "What exists?", "Why the names of an identity are one."),
    ("identity split", "identity:split", "What exists?", "Take a name out of an identity, and never join it again."),
    ("identity join", "identity:join", "What exists?", "Say that two identities are one."),
    ("findings", "inventory:findings", "What exists?", "What is wrong, worst first."),
    ("blast", "blast:blast", "What exists?", "What one compromised credential, identity, host, owner … reaches."),
    ("paths", "paths:paths", "What exists?", "By which ways one thing reaches another; who reaches a resource."),
    ("cut", "paths:cut", "What exists?", "The cheapest changes after which it is reached no more, and what they break."),
    ("deps", "deps:deps", "What exists?", "Who depends on it, by evidence: what would break if it were revoked."),
    ("scream start", "deps:start", "What exists?", "Hold it back for a moment, and hear who depends on it."),
    ("scream status", "deps:status", "What exists?", "Scream tests: what runs, who screamed, what was restored."),
    ("scream stop", "deps:stop", "What exists?", "End a scream test now, and restore."),
    ("use", "use:use", "What exists?", "Who uses it, from where, on which days, and since when not."),
    ("entry create", "trust:entry_create", "Who is it?", "Register a workload: its SPIFFE ID and the selectors that prove it."),
    ("entry ls", "trust:entry_ls", "Who is it?", "List registration entries."),
    ("entry rm", "trust:entry_rm", "Who is it?", "Remove a registration entry."),
    ("client add", "tokens:client_add", "Who is it?", "Register a client of the token service, by its SPIFFE ID or its public keys."),
    ("client ls", "tokens:client_ls", "Who is it?", "List registered clients."),
    ("client rm", "tokens:client_rm", "Who is it?", "Forget a client."),
    ("svid fetch", "workload:svid_fetch", "Who is it?", "Fetch the SVIDs of this very process from the agent."),
    ("svid watch", "workload:svid_watch", "Who is it?", "Follow the SVIDs of this process as they rotate."),
    ("x509 write", "workload:x509_write", "Who is it?", "Keep an X.509-SVID in files, for programs that read files."),
    ("step-up", "stepup:step_up", "Who is it?", "Prove this workload a second time, where a permit asks for it."),
    ("token fetch", "workload:token_fetch", "Who is it?", "Fetch a token for one resource, bound to this process's SVID."),
    ("token exchange", "workload:token_exchange", "Who is it?", "Exchange a token that we were shown for one on its behalf."),
    ("token introspect", "workload:token_introspect", "Who is it?", "Is a token that we were shown in force?"),
    ("ssh-cert", "workload:ssh_cert", "Who is it?", "An SSH user certificate for minutes, by an SVID."),
    ("kube-credential", "workload:kube_credential", "Who is it?", "Be kubectl's credential plug-in, by an SVID."),
    ("federation add", "federation:add", "Who is it?", "Trust another trust domain: where its bundle is, how far, until when."),
    ("federation ls", "federation:ls", "Who is it?", "List partners, and how fresh what we hold of them is."),
    ("federation show", "federation:show", "Who is it?", "One relation: its bounds as Cedar, its keys, how fetching goes."),
    ("federation admit", "federation:admit", "Who is it?", "Let an id of a partner be an identity here, within its bounds."),
    ("federation refresh", "federation:refresh", "Who is it?", "Fetch a partner's bundle now."),
    ("federation rm", "federation:rm", "Who is it?", "End a relation: its bundle is withdrawn at once."),
    ("authority ls", "authority:ls", "Who is it?", "List authorities: which keys sign, and what hangs on each."),
    ("authority prepare", "authority:prepare", "Who is it?", "Make and publish the next authority."),
    ("authority activate", "authority:activate", "Who is it?", "Let a prepared authority sign."),
    ("authority rotate", "authority:rotate", "Who is it?", "Let a new authority sign at once."),
    ("authority taint", "authority:taint", "Who is it?", "Issue anew, now, all that an old authority signed."),
    ("authority revoke", "authority:revoke", "Who is it?", "Take an authority out of the bundle, for ever."),
    ("downstream add", "authority:downstream_add", "Who is it?", "Let a Remit below have intermediate authorities of this one."),
    ("downstream ls", "authority:downstream_ls", "Who is it?", "List the Remits below."),
    ("downstream rm", "authority:downstream_rm", "Who is it?", "Let a Remit below have no more intermediates."),
    ("agent run", "agents:run", "Who is it?", "Run the agent of a machine far away (`remit agent --server …`)."),
    ("agent status", "agents:status", "Who is it?", "Say how the agent on this machine stands."),
    ("agent token", "agents:token", "Who is it?", "Make a join token: it lets one machine join, once."),
    ("agent tokens", "agents:tokens", "Who is it?", "List join tokens, without their secrets."),
    ("agent untoken", "agents:untoken", "Who is it?", "Withdraw a join token."),
    ("agent ls", "agents:ls", "Who is it?", "List agents far from the control plane."),
    ("agent show", "agents:show", "Who is it?", "One agent: its proof, its node, the entries that reach it."),
    ("agent evict", "agents:evict", "Who is it?", "End an agent's service; its machine may join again."),
    ("agent ban", "agents:ban", "Who is it?", "End an agent's service, and never admit its machine again."),
    ("policy apply", "policy:apply", "What may it do?", "Check Cedar policies and put them in force."),
    ("policy activate", "policy:activate", "What may it do?", "Put a staged version in force, as another person."),
    ("policy rollback", "policy:rollback", "What may it do?", "Put an earlier version in force again."),
    ("policy versions", "policy:versions", "What may it do?", "List policy versions: staged, in force, superseded."),
    ("policy check", "policy:check", "What may it do?", "Check policies against the schema; change nothing."),
    ("policy test", "policy:test", "What may it do?", "Run test cases (YAML) against policies."),
    ("policy authorize", "cedar:authorize", "What may it do?", "Decide one request by plain Cedar files, offline."),
    ("policy conformance", "cedar:conformance", "What may it do?", "Hold the engine to Cedar's own integration tests."),
    ("policy prove", "proofs:prove", "What may it do?", "Prove an invariant of policies, or show a request that breaks it."),
    ("policy analyse", "proofs:analyse", "What may it do?", "Find shadowed, contradictory, over-broad and unused policies."),
    ("policy diff", "proofs:diff", "What may it do?", "What another policy set changes: its text, and what it allows."),
    ("policy show", "policy:show", "What may it do?", "Show the policies in force, or the starter policies."),
    ("policy schema", "policy:schema", "What may it do?", "What a policy can say: each attribute, who says it, what it means."),
    ("policy replay", "policy:replay", "What may it do?", "What past decisions would become under other policies."),
    ("policy explain", "policy:explain", "What may it do?", "Why was it decided so, and what would have changed it?"),
    ("explain", "policy:explain", "What may it do?", "Why was it decided so? (the same as `policy explain`)"),
    ("decisions", "policy:decisions", "What may it do?", "The latest decisions."),
    ("enforcer add", "enforcers:add", "What may it do?", "Register an enforcement point: it may ask for decisions about others."),
    ("enforcer ls", "enforcers:ls", "What may it do?", "List enforcement points."),
    ("enforcer show", "enforcers:show", "What may it do?", "One enforcement point: what it may ask, and what it does itself."),
    ("enforcer rm", "enforcers:rm", "What may it do?", "Forget an enforcement point."),
    ("intent check", "intents:check", "What may it do?", "Check an agent's intent (YAML)."),
    ("intent request", "intents:request", "What may it do?", "Ask for an intent: what an agent's task may do with tools."),
    ("intent approve", "intents:approve", "What may it do?", "Approve an intent, as another person."),
    ("intent ls", "intents:ls", "What may it do?", "List intents."),
    ("intent show", "intents:show", "What may it do?", "One intent, and what its session has read and used."),
    ("intent rm", "intents:rm", "What may it do?", "End an intent and its session at once."),
    ("gateway mcp", "gateway:mcp", "What may it do?", "Serve an MCP server to an agent, each call decided."),
    ("gateway http", "gateway_http:http", "What may it do?", "Stand before or behind programs that cannot be changed."),
    ("gateway tools show", "gateway:tools_show", "What may it do?", "The tools of a server, and which are approved as they are."),
    ("gateway tools approve", "gateway:tools_approve", "What may it do?", "Approve the definition of a tool."),
    ("gateway tools ls", "gateway:tools_ls", "What may it do?", "List approved tools."),
    ("gateway tools rm", "gateway:tools_rm", "What may it do?", "Believe a tool no more."),
    ("secret add", "secrets:add", "What may it do?", "Keep a secret that gateways inject, so that programs never hold it."),
    ("secret ls", "secrets:ls", "What may it do?", "List secrets, without their values."),
    ("secret rotate", "secrets:rotate", "What may it do?", "Give a secret another value."),
    ("secret rm", "secrets:rm", "What may it do?", "Forget a secret."),
    ("rotate now", "rotation:now", "What may it do?", "Replace a credential without an outage (`remit rotate NAME`)."),
    ("rotate define", "rotation:define", "What may it do?", "Define what is rotated, who reads it, how it is known to work."),
    ("rotate plans", "rotation:plans", "What may it do?", "List what is rotated."),
    ("rotate due", "rotation:due", "What may it do?", "When each credential is to be rotated."),
    ("rotate ls", "rotation:ls", "What may it do?", "List rotations: under way, done and proved, rolled back."),
    ("rotate show", "rotation:show", "What may it do?", "One rotation: consumers, what was observed, the proof."),
    ("rotate resume", "rotation:resume", "What may it do?", "Carry on a rotation that is stuck."),
    ("rotate rollback", "rotation:rollback", "What may it do?", "Put everything back as it was."),
    ("rotate rm", "rotation:rm", "What may it do?", "Rotate it no more."),
    ("standing ls", "standing:ls", "What may it do?", "Privileged hours outside of grants, the worst first."),
    ("rightsize of", "rightsize:rightsize", "What may it do?", "What it may do and never does: the least that serves, replayed, as a difference."),
    ("rightsize stage", "rightsize:stage", "What may it do?", "Bring a proposal into force: shadow, canary, enforce, back."),
    ("convert", "standing:convert", "What may it do?", "Turn a login that stands into a role that tasks lease, with a way back."),
    ("target add", "access:target_add", "What may it do?", "Add a system on which credentials are minted."),
    ("target ls", "access:target_ls", "What may it do?", "List targets."),
    ("target rm", "access:target_rm", "What may it do?", "Remove a target that has no live leases."),
    ("target install", "access:target_install", "What may it do?", "Install what lets the broker work with the least privilege."),
    ("segment plan", "segments:plan", "What may it do?", "Network rules around a target, from grants and tasks."),
    ("segment apply", "segments:apply", "What may it do?", "Let them hold, try them, and put back what fails."),
    ("segment probe", "segments:probe", "What may it do?", "Connect from where it should work, and where it should not."),
    ("segment ls", "segments:ls", "What may it do?", "Which network rules hold, and what was seen of them."),
    ("segment rm", "segments:rm", "What may it do?", "Take network rules of Remit away."),
    ("segment place", "segments:place", "What may it do?", "Register where a task comes from, or a target is."),
    ("segment places", "segments:places", "What may it do?", "List registered places."),
    ("task add", "tasks:task_add", "What may it do?", "Register a task: its name, its identity and its very program."),
    ("task ls", "tasks:task_ls", "What may it do?", "List task definitions, or runs elsewhere."),
    ("task show", "tasks:task_show", "What may it do?", "One run elsewhere, and its leases."),
    ("task rm", "tasks:task_rm", "What may it do?", "Remove a task definition."),
    ("task begin", "tasks:task_begin", "What may it do?", "Begin a run elsewhere, by an SVID: credentials until it ends."),
    ("task heartbeat", "tasks:task_heartbeat", "What may it do?", "Keep a run elsewhere alive."),
    ("task end", "tasks:task_end", "What may it do?", "End a run elsewhere, and prove that its credentials are refused."),
    ("request new", "grants:request", "What may it do?", "Ask for a grant (`remit request --task …`): which needs, why, how long."),
    ("request ls", "grants:request_ls", "What may it do?", "Requests and approvals, newest first."),
    ("request show", "grants:request_show", "What may it do?", "One request: its terms, who must approve, its history."),
    ("request withdraw", "grants:request_withdraw", "What may it do?", "Take a request or approval back; its leases end at once."),
    ("request review", "grants:request_review", "What may it do?", "Review an emergency after it is over."),
    ("request constant", "grants:request_constant", "What may it do?", "Tasks that are elevated all the time, and what would replace it."),
    ("approve", "grants:approve", "What may it do?", "Approve a grant that waits, deny it, or list those that do."),
    ("break-glass", "grants:break_glass", "What may it do?", "An emergency: a grant by your own signature, for an hour at most."),
    ("leases", "access:leases", "What may it do?", "List leases: live, revoked and proved, not contained."),
    ("revoke", "access:revoke", "What may it do?", "Revoke leases, SVIDs, tokens, or a static credential, and prove it."),
    ("restore", "revocation:restore", "What may it do?", "Let what was revoked get SVIDs, tokens and leases again."),
    ("revocations", "revocation:revocations", "What may it do?", "What is revoked, and who has heard of it."),
    ("quarantine", "defense:quarantine", "What then?", "Deny an identity everything and revoke its leases."),
    ("release", "defense:release", "What then?", "Let a quarantined identity work again."),
    ("incidents", "defense:incidents", "What then?", "What was detected, and what was done."),
    ("leak ls", "leaks:ls", "What then?", "Leaked credentials: where each stands, and how long it took to contain."),
    ("leak show", "leaks:show", "What then?", "One leak: whose, who was told, what was done, the proof."),
    ("leak drive", "leaks:drive", "What then?", "Drive a leaked credential to a proven refusal."),
    ("leak close", "leaks:close", "What then?", "Close a leak on your own word, where nothing proves it."),
    ("own", "governance:own", "Who answers?", "Show proposed owners, or assign one."),
    ("tier set", "tiers:tier_set", "Who answers?", "Say how dangerous an identity is: what is asked of it follows."),
    ("tier unset", "tiers:tier_unset", "Who answers?", "Take back the tier that was said."),
    ("tier ls", "tiers:tier_ls", "Who answers?", "Tiers: what counts, who says so, and what reach demands."),
    ("tier explain", "tiers:tier_explain", "Who answers?", "The tier of an identity, with the reasons."),
    ("describe", "tiers:describe", "Who answers?", "Say what an identity is for, where no source does."),
    ("claim", "governance:claim", "Who answers?", "Answer for an identity yourself."),
    ("lifecycle", "governance:lifecycle", "Who answers?", "Move an identity to another state of its life."),
    ("offboard", "rotation:offboard", "Who answers?", "Let an identity go: end and try everything, then retire it."),
    ("people enrol", "governance:enrol", "Who answers?", "Register a person with a key of their own."),
    ("people ls", "governance:people_ls", "Who answers?", "List registered persons."),
    ("people leave", "governance:people_leave", "Who answers?", "End a person's part: what they owned needs another owner."),
    ("people orphans", "governance:people_orphans", "Who answers?", "Identities whose owner left, and their deadlines."),
    ("people exposure", "governance:people_exposure", "Who answers?", "Secrets that a person can know, to be rotated."),
    ("team set", "teams:team_set", "Who answers?", "Say who leads a team and who belongs to it; signed by you."),
    ("team ls", "teams:team_ls", "Who answers?", "List teams, who leads each, and who belongs to it."),
    ("team rm", "teams:team_rm", "Who answers?", "End a team: what it owned needs another owner."),
    ("directory sync", "governance:directory_sync", "Who answers?", "Read the directory of people now: who is gone has left."),
    ("directory ls", "governance:directory_ls", "Who answers?", "People of the directory."),
    ("exception request", "governance:exception_request", "Who answers?", "Ask for a temporary exception."),
    ("exception approve", "governance:exception_approve", "Who answers?", "Approve an exception, as another person."),
    ("exception ls", "governance:exception_ls", "Who answers?", "List exceptions."),
    ("exception revoke", "governance:exception_revoke", "Who answers?", "End an exception now."),
    ("prove now", "paths:prove", "How is it proved?", "Every path to a resource or class that escapes policy (`remit prove`)."),
    ("prove verify", "paths:verify", "How is it proved?", "Check a certificate of path proof, without a server."),
    ("prove ls", "paths:ls", "How is it proved?", "Certificates of path proof: what holds, and what broke."),
    ("prove bind", "paths:bind", "How is it proved?", "Say which identities are an enforcement point's own."),
    ("prove bindings", "paths:bindings", "How is it proved?", "List bindings of enforcement points."),
    ("prove unbind", "paths:unbind", "How is it proved?", "Forget a binding."),
    ("ledger verify", "ledger:verify", "How is it proved?", "Verify the whole ledger from its files and a key alone."),
    ("ledger ls", "ledger:ls", "How is it proved?", "The latest entries."),
    ("ledger prove", "ledger:prove", "How is it proved?", "A proof that one entry is in the ledger."),
    ("past", "past:past", "How is it proved?", "What something could reach at a past moment, and who had approved it."),
)  # fmt: skip
RUN: Final = "Run a command as a task, with credentials that end when it ends."
_PARENTS: Final = {
    "discover": ("What exists?", "Read a system and keep what it shows."),
    "source": ("What exists?", "One source: its schedule, what changed, reading it again."),
    "scream": ("What exists?", "Scream tests: who depends on it is found out, with an automatic way back."),
    "identity": ("What exists?", "What makes an identity one: explained, undone, done by hand."),
    "entry": ("Who is it?", "Registration entries: which workload is who."),
    "resource": ("What exists?", "What can be reached, and how sensitive it is."),
    "client": ("Who is it?", "Clients of the token service: who may ask for tokens by which proof."),
    "keys": ("Run", "The installation's own keys: what seals everything else."),
    "authority": ("Who is it?", "Authorities: the keys that sign SVIDs and tokens."),
    "downstream": ("Who is it?", "Remits below, whose authority we sign."),
    "svid": ("Who is it?", "This process's own identity, from the agent."),
    "x509": ("Who is it?", "X.509-SVIDs as files."),
    "token": ("Who is it?", "Tokens for one task, from an SVID."),
    "federation": ("Who is it?", "Partners: other trust domains, and their bounds."),
    "agent": ("Who is it?", "Agents far from the control plane: let them join, look after them, run one."),
    "policy": ("What may it do?", "Policy as code (Cedar): check, test, prove, apply, explain."),
    "enforcer": ("What may it do?", "Enforcement points (PEPs): who may ask about others."),
    "intent": ("What may it do?", "Intents: what an agent's task may do, signed before it reads anything."),
    "gateway": ("What may it do?", "Gateways: enforcement in front of what cannot enforce by itself."),
    "gateway tools": ("What may it do?", "Tools of MCP servers: which definitions a person approved."),
    "secret": ("What may it do?", "Secrets that gateways inject into permitted requests."),
    "request": ("What may it do?", "Ask for a grant: `remit request --task … --need … --reason … --for 30m`."),
    "rotate": ("What may it do?", "Rotation of credentials that must still exist, without an outage."),
    "segment": ("What may it do?", "Network rules around targets: planned, applied with a way back, probed."),
    "rightsize": (
        "What may it do?",
        "Granted against used: `remit rightsize ID`; without one, where it is worth most.",
    ),
    "standing": ("What may it do?", "Rights that stand without a task, and for how long they have."),
    "target": ("What may it do?", "Systems on which credentials are minted."),
    "task": ("What may it do?", "Task definitions: which program may ask for what."),
    "leak": ("What then?", "Leaked credentials, driven to a proven refusal."),
    "tier": ("Who answers?", "Risk tiers: what is asked of an identity follows from what it could do."),
    "people": ("Who answers?", "Registered persons: who may approve and own."),
    "team": ("Who answers?", "Teams: who leads each, and whose approvals count for it."),
    "directory": ("Who answers?", "The directory of people: a file or SCIM; who leaves it leaves what they own."),
    "exception": ("Who answers?", "Exceptions: temporary, documented, enforced."),
    "prove": ("How is it proved?", "Path proof: `remit prove --resource-class restricted` lists every open path."),
    "ledger": ("How is it proved?", "The tamper-evident log."),
}


def build() -> App:
    """The whole command line."""
    from cyclopts import App, Group

    from remit import __version__

    app = App(
        name="remit",
        help=ABOUT,
        version=__version__,
        help_format="plaintext",
        help_epilogue=EPILOGUE,
        error_formatter=_misused,
    )
    groups = {name: Group(name, sort_key=number) for number, name in enumerate(GROUPS)}
    parents = {
        name: App(name=name.split()[-1], help=text, group=groups[group], version_flags=[])
        for name, (group, text) in _PARENTS.items()
    }
    for name, parent in parents.items():
        above = name.rpartition(" ")[0]
        (parents[above] if above else app).command(parent)
    for path, target, group, text in COMMANDS:
        above, _, name = path.rpartition(" ")
        owner = parents[above] if above else app
        if above:
            owner.command(f"{_HERE}.{target}", name=name, help=text)
        else:
            owner.command(f"{_HERE}.{target}", name=name, help=text, group=groups[group])
    # `remit run` takes everything after `--` as it stands: its own light parser, in the supervisor.
    app.command("remit.surface.cli.commands.run:help_only", name="run", group=groups["What may it do?"],
                help=RUN)  # fmt: skip
    app.register_install_completion_command()
    return app


def _misused(error: CycloptsError) -> Text:
    """A command line that cannot be understood, told as every other error is: a sentence, and what to do next."""
    from rich.text import Text

    from remit.surface.cli.output import visible

    said = str(error).partition(" Available commands:")[0].rstrip(".")
    about = " ".join(("remit", *(error.command_chain or ()), "--help"))
    return Text.assemble(("error ", "bold red"), visible(said), "\n", ("next  ", "bold"), f"`{about}`")


def overview(*, color: bool) -> str:
    """All commands by the question that they answer: drawn from the table alone, so that it is there at once."""
    bold, plain = ("\033[1m", "\033[0m") if color else ("", "")
    width = max(len(path) for path, *_ in COMMANDS) + 2
    lines = [ABOUT, "", f"{bold}Usage{plain}  remit COMMAND", ""]
    for group in GROUPS:
        lines.append(f"{bold}{group}{plain}")
        lines += [f"  {path:<{width}}{text}" for path, _, of, text in COMMANDS if of == group]
        lines.append(f"  {'run':<{width}}{RUN}" if group == "What may it do?" else "")
        if group == "What may it do?":
            lines.append("")
    return "\n".join([*lines, EPILOGUE, "Tab completion: `remit --install-completion`."])


def _paths() -> frozenset[str]:
    return frozenset(path for path, *_ in COMMANDS)


def main() -> None:
    """Entry point: runs the command, and turns an error into a sentence, a next step and an exit code."""
    argv = sys.argv[1:]
    if argv[:1] == ["run"] and argv[1:2] in (["github"], ["kubernetes"]):
        from remit.surface.cli.run import main as run_main

        raise SystemExit(run_main(argv[1:]))
    if argv[:1] == ["run"] and "--help" not in argv[: argv.index("--") if "--" in argv else None]:
        from remit.surface.cli.run import main as run_main

        raise SystemExit(run_main(argv[1:]))
    from remit.kernel.errors import RemitError

    try:
        if argv in ([], ["--help"], ["-h"]):
            print(overview(color=sys.stdout.isatty() and not os.environ.get("NO_COLOR")), flush=True)
            return
        if argv[0] == "agent" and argv[1:2] and argv[1].startswith("--") and argv[1] != "--help":
            argv.insert(1, "run")  # `remit agent --server …` runs it
        if argv[0] == "request" and argv[1:2] and argv[1].startswith("-") and argv[1] not in ("--help", "-h"):
            argv.insert(1, "new")  # `remit request --task …` asks
        if argv[0] == "prove" and argv[1:2] and argv[1].startswith("-") and argv[1] not in ("--help", "-h"):
            argv.insert(1, "now")  # `remit prove --resource-class restricted` proves
        if argv[0] == "rightsize" and argv[1:2] not in (["--help"], ["-h"], ["stage"], ["of"]):
            argv.insert(1, "of")  # `remit rightsize ID` proposes
        if (
            argv[0] == "rotate"
            and argv[1:2]
            and argv[1] not in ("--help", "-h")
            and f"rotate {argv[1]}" not in _paths()
        ):
            argv.insert(1, "now")  # `remit rotate NAME` rotates it
        build()(argv)
    except RemitError as error:
        from remit.surface.cli.output import say_error
        from remit.surface.problem import exit_code_of

        say_error(error)
        raise SystemExit(exit_code_of(error)) from None
    except BrokenPipeError:
        # Whoever read us has enough; nothing more may be written when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise SystemExit(0) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except OSError as error:
        raise SystemExit(_say_unusable(error)) from None


def _say_unusable(error: OSError) -> int:
    """A file that the command line named; anything else is a bug, and raised again."""
    if error.filename is None:
        raise error
    from remit.kernel.errors import Rejected
    from remit.surface.cli.output import say_error

    what = f"`{error.filename}` cannot be used: {error.strerror}"
    say_error(Rejected("surface.file.unusable", what, next_step="name another file, or change who may use it"))
    return 2
