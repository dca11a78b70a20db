"""first schema"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "access_grant",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("identity", sa.String(length=1000), nullable=False),
        sa.Column("task", sa.String(length=80), nullable=False),
        sa.Column("task_digest", sa.String(length=80), nullable=False),
        sa.Column("needs", sa.Text(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("reason", sa.String(length=1000), nullable=False),
        sa.Column("approvals", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("requested_by", sa.String(length=200), nullable=False),
        sa.Column("process", sa.Text(), nullable=True),
        sa.Column("proven", sa.Text(), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_grant")),
    )
    op.create_index(op.f("ix_access_grant_identity"), "access_grant", ["identity"], unique=False)
    op.create_index("ix_access_grant_task_state", "access_grant", ["task", "state"], unique=False)
    op.create_table(
        "access_holder",
        sa.Column("holder", sa.String(length=40), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("holder", name=op.f("pk_access_holder")),
    )
    op.create_table(
        "access_lease",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("grant_id", sa.String(length=32), nullable=False),
        sa.Column("identity", sa.String(length=1000), nullable=False),
        sa.Column("task", sa.String(length=80), nullable=False),
        sa.Column("target", sa.String(length=64), nullable=False),
        sa.Column("need", sa.String(length=600), nullable=False),
        sa.Column("principal", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("process", sa.Text(), nullable=True),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("revoked", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.String(length=1000), nullable=False),
        sa.Column("proof", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("role", sa.String(length=200), nullable=False),
        sa.Column("database", sa.String(length=200), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("holder", sa.String(length=40), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("issued", sa.BigInteger(), nullable=True),
        sa.Column("trouble", sa.String(length=1000), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_lease")),
        sa.UniqueConstraint("principal", name=op.f("uq_access_lease_principal")),
    )
    op.create_index(op.f("ix_access_lease_grant_id"), "access_lease", ["grant_id"], unique=False)
    op.create_index(op.f("ix_access_lease_identity"), "access_lease", ["identity"], unique=False)
    op.create_index("ix_access_lease_state_id", "access_lease", ["state", "id"], unique=False)
    op.create_index("ix_access_lease_target_state", "access_lease", ["target", "state"], unique=False)
    op.create_index(op.f("ix_access_lease_task"), "access_lease", ["task"], unique=False)
    op.create_table(
        "access_policy_version",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("serial", sa.Integer(), nullable=False),
        sa.Column("activated", sa.BigInteger(), nullable=True),
        sa.Column("activated_by", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_policy_version")),
    )
    op.create_index(op.f("ix_access_policy_version_state"), "access_policy_version", ["state"], unique=False)
    op.create_table(
        "access_sweep",
        sa.Column("target", sa.String(length=64), nullable=False),
        sa.Column("holder", sa.String(length=40), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("target", name=op.f("pk_access_sweep")),
    )
    op.create_table(
        "access_target",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("system", sa.String(length=40), nullable=False),
        sa.Column("host", sa.String(length=400), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("database", sa.String(length=200), nullable=False),
        sa.Column("login", sa.String(length=200), nullable=False),
        sa.Column("roles", sa.Text(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("instance", sa.String(length=200), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_access_target")),
    )
    op.create_table(
        "access_task",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("identity", sa.String(length=1000), nullable=False),
        sa.Column("program", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("uid", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_access_task")),
    )
    op.create_index(op.f("ix_access_task_identity"), "access_task", ["identity"], unique=False)
    op.create_table(
        "authority_journal",
        sa.Column("serial", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("leaf", sa.LargeBinary(), nullable=False),
        sa.Column("mac", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_authority_journal")),
    )
    op.create_table(
        "defense_detection",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("rule", sa.String(length=120), nullable=False),
        sa.Column("identity", sa.String(length=32), nullable=False),
        sa.Column("title", sa.String(length=400), nullable=False),
        sa.Column("severity", sa.String(length=10), nullable=False),
        sa.Column("confidence", sa.Integer(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("event_id", sa.String(length=400), nullable=False),
        sa.Column("happened", sa.BigInteger(), nullable=False),
        sa.Column("detected", sa.BigInteger(), nullable=False),
        sa.Column("suggested", sa.String(length=40), nullable=False),
        sa.Column("incident", sa.String(length=32), nullable=False),
        sa.Column("lease", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_defense_detection")),
    )
    op.create_index("ix_defense_detection_identity", "defense_detection", ["identity", "id"], unique=False)
    op.create_index(op.f("ix_defense_detection_incident"), "defense_detection", ["incident"], unique=False)
    op.create_index("ix_defense_detection_storm", "defense_detection", ["rule", "detected"], unique=False)
    op.create_table(
        "defense_incident",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("identity", sa.String(length=32), nullable=False),
        sa.Column("title", sa.String(length=400), nullable=False),
        sa.Column("severity", sa.String(length=10), nullable=False),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("opened", sa.BigInteger(), nullable=False),
        sa.Column("happened", sa.BigInteger(), nullable=False),
        sa.Column("detected", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("detections", sa.Integer(), nullable=False),
        sa.Column("contained", sa.BigInteger(), nullable=True),
        sa.Column("proved", sa.BigInteger(), nullable=True),
        sa.Column("closed", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_defense_incident")),
    )
    op.create_index("ix_defense_incident_identity", "defense_incident", ["identity", "id"], unique=False)
    op.create_index("ix_defense_incident_status", "defense_incident", ["status", "id"], unique=False)
    op.create_table(
        "defense_moment",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("incident", sa.String(length=32), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("text", sa.String(length=400), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_defense_moment")),
    )
    op.create_index("ix_defense_moment_incident", "defense_moment", ["incident", "number"], unique=False)
    op.create_table(
        "defense_response",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("identity", sa.String(length=32), nullable=False),
        sa.Column("incident", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", sa.String(length=200), nullable=False),
        sa.Column("automatic", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("environment", sa.String(length=80), nullable=False),
        sa.Column("contains", sa.Boolean(), nullable=False),
        sa.Column("intended", sa.BigInteger(), nullable=False),
        sa.Column("next_try", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("finished", sa.BigInteger(), nullable=True),
        sa.Column("effects", sa.Text(), nullable=False),
        sa.Column("error", sa.String(length=120), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("undo_by", sa.String(length=200), nullable=False),
        sa.Column("undo_reason", sa.Text(), nullable=False),
        sa.Column("undo_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_defense_response")),
    )
    op.create_index(
        "ix_defense_response_contained", "defense_response", ["contains", "environment", "state"], unique=False
    )
    op.create_index("ix_defense_response_due", "defense_response", ["state", "next_try"], unique=False)
    op.create_index("ix_defense_response_hour", "defense_response", ["automatic", "intended"], unique=False)
    op.create_index("ix_defense_response_identity", "defense_response", ["identity", "kind", "id"], unique=False)
    op.create_index(op.f("ix_defense_response_incident"), "defense_response", ["incident"], unique=False)
    op.create_table(
        "governance_exception",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("rule", sa.String(length=200), nullable=False),
        sa.Column("identities", sa.Text(), nullable=False),
        sa.Column("actions", sa.Text(), nullable=False),
        sa.Column("resource", sa.String(length=1001), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("compensating", sa.Text(), nullable=False),
        sa.Column("requester", sa.String(length=200), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("approver", sa.String(length=200), nullable=False),
        sa.Column("approved", sa.BigInteger(), nullable=True),
        sa.Column("renewals", sa.Integer(), nullable=False),
        sa.Column("approvers", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=True),
        sa.Column("ended_by", sa.String(length=200), nullable=False),
        sa.Column("ended_reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_governance_exception")),
    )
    op.create_index("ix_governance_exception_force", "governance_exception", ["status", "expires"], unique=False)
    op.create_index(op.f("ix_governance_exception_rule"), "governance_exception", ["rule"], unique=False)
    op.create_table(
        "governance_nonce",
        sa.Column("person", sa.String(length=64), nullable=False),
        sa.Column("nonce", sa.String(length=64), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("person", "nonce", name=op.f("pk_governance_nonce")),
    )
    op.create_index(op.f("ix_governance_nonce_expires"), "governance_nonce", ["expires"], unique=False)
    op.create_table(
        "governance_orphan",
        sa.Column("identity", sa.String(length=32), nullable=False),
        sa.Column("owner", sa.String(length=200), nullable=False),
        sa.Column("opened", sa.BigInteger(), nullable=False),
        sa.Column("deadline", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.String(length=20), nullable=False),
        sa.Column("closed", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("identity", name=op.f("pk_governance_orphan")),
    )
    op.create_index("ix_governance_orphan_due", "governance_orphan", ["outcome", "deadline"], unique=False)
    op.create_table(
        "governance_person",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("public_key", sa.String(length=64), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("enrolled", sa.BigInteger(), nullable=False),
        sa.Column("enrolled_by", sa.String(length=200), nullable=False),
        sa.Column("deactivated", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_governance_person")),
        sa.UniqueConstraint("email", name=op.f("uq_governance_person_email")),
        sa.UniqueConstraint("public_key", name=op.f("uq_governance_person_public_key")),
    )
    op.create_table(
        "governance_team",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("lead", sa.String(length=64), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("registered", sa.BigInteger(), nullable=False),
        sa.Column("registered_by", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_governance_team")),
    )
    op.create_index(op.f("ix_governance_team_lead"), "governance_team", ["lead"], unique=False)
    op.create_table(
        "inventory_identity",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=1000), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("title", sa.String(length=400), nullable=False),
        sa.Column("system", sa.String(length=40), nullable=False),
        sa.Column("instance", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("owner", sa.String(length=200), nullable=True),
        sa.Column("environment", sa.String(length=80), nullable=True),
        sa.Column("service", sa.String(length=200), nullable=True),
        sa.Column("purpose", sa.String(length=400), nullable=True),
        sa.Column("autonomy", sa.String(length=20), nullable=True),
        sa.Column("tier", sa.Integer(), nullable=True),
        sa.Column("privileged", sa.Boolean(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=True),
        sa.Column("last_used", sa.BigInteger(), nullable=True),
        sa.Column("first_seen", sa.BigInteger(), nullable=False),
        sa.Column("last_seen", sa.BigInteger(), nullable=False),
        sa.Column("present", sa.Boolean(), nullable=False),
        sa.Column("merged_into", sa.String(length=32), nullable=True),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inventory_identity")),
        sa.UniqueConstraint("name", name=op.f("uq_inventory_identity_name")),
    )
    op.create_index(op.f("ix_inventory_identity_environment"), "inventory_identity", ["environment"], unique=False)
    op.create_index(op.f("ix_inventory_identity_kind"), "inventory_identity", ["kind"], unique=False)
    op.create_index(op.f("ix_inventory_identity_last_used"), "inventory_identity", ["last_used"], unique=False)
    op.create_index(op.f("ix_inventory_identity_owner"), "inventory_identity", ["owner"], unique=False)
    op.create_index(op.f("ix_inventory_identity_state"), "inventory_identity", ["state"], unique=False)
    op.create_index(op.f("ix_inventory_identity_system"), "inventory_identity", ["system"], unique=False)
    op.create_index(op.f("ix_inventory_identity_tier"), "inventory_identity", ["tier"], unique=False)
    op.create_index(op.f("ix_inventory_identity_title"), "inventory_identity", ["title"], unique=False)
    op.create_table(
        "inventory_resource",
        sa.Column("name", sa.String(length=1000), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("title", sa.String(length=400), nullable=False),
        sa.Column("system", sa.String(length=40), nullable=False),
        sa.Column("sensitivity", sa.String(length=20), nullable=True),
        sa.Column("sensitivity_confirmed", sa.Boolean(), nullable=False),
        sa.Column("first_seen", sa.BigInteger(), nullable=False),
        sa.Column("last_seen", sa.BigInteger(), nullable=False),
        sa.Column("present", sa.Boolean(), nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_inventory_resource")),
    )
    op.create_table(
        "inventory_source",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("connector", sa.String(length=40), nullable=False),
        sa.Column("instance", sa.String(length=200), nullable=False),
        sa.Column("scope", sa.String(length=1000), nullable=False),
        sa.Column("run", sa.String(length=32), nullable=False),
        sa.Column("started", sa.BigInteger(), nullable=False),
        sa.Column("finished", sa.BigInteger(), nullable=True),
        sa.Column("counts", sa.Text(), nullable=False),
        sa.Column("skipped", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inventory_source")),
    )
    op.create_index("uq_inventory_source_place", "inventory_source", ["connector", "instance", "scope"], unique=True)
    op.create_table(
        "ledger_body",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_ledger_body")),
    )
    op.create_table(
        "ledger_entry",
        sa.Column(
            "leaf_index", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("type", sa.String(length=80), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=400), nullable=False),
        sa.Column("subject", sa.String(length=1000), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("leaf_index", name=op.f("pk_ledger_entry")),
        sa.UniqueConstraint("id", name=op.f("uq_ledger_entry_id")),
    )
    op.create_index(op.f("ix_ledger_entry_subject"), "ledger_entry", ["subject"], unique=False)
    op.create_index(op.f("ix_ledger_entry_type"), "ledger_entry", ["type"], unique=False)
    op.create_table(
        "ledger_head",
        sa.Column("size", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("size", name=op.f("pk_ledger_head")),
    )
    op.create_table(
        "storage_key",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_storage_key")),
    )
    op.create_table(
        "trust_authority",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("public", sa.LargeBinary(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("activated", sa.BigInteger(), nullable=True),
        sa.Column("ended", sa.BigInteger(), nullable=True),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trust_authority")),
    )
    op.create_table(
        "trust_binary",
        sa.Column("entry", sa.String(length=32), nullable=False),
        sa.Column("path_digest", sa.String(length=64), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("seen", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("entry", "path_digest", name=op.f("pk_trust_binary")),
    )
    op.create_table(
        "trust_bundle",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trust_bundle")),
    )
    op.create_table(
        "trust_entry",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=80), nullable=False),
        sa.Column("spiffe_id", sa.String(length=2048), nullable=False),
        sa.Column("selectors", sa.Text(), nullable=False),
        sa.Column("x509_ttl", sa.Integer(), nullable=False),
        sa.Column("jwt_ttl", sa.Integer(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("identity", sa.String(length=32), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trust_entry")),
        sa.UniqueConstraint("key", name=op.f("uq_trust_entry_key")),
    )
    op.create_index(op.f("ix_trust_entry_identity"), "trust_entry", ["identity"], unique=False)
    op.create_table(
        "inventory_alias",
        sa.Column("name", sa.String(length=1000), nullable=False),
        sa.Column("identity", sa.String(length=32), nullable=False),
        sa.Column("evidence", sa.String(length=400), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["identity"], ["inventory_identity.id"], name=op.f("fk_inventory_alias_identity")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_inventory_alias")),
    )
    op.create_index(op.f("ix_inventory_alias_identity"), "inventory_alias", ["identity"], unique=False)
    op.create_table(
        "inventory_credential",
        sa.Column("fingerprint", sa.String(length=140), nullable=False),
        sa.Column("identity", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("title", sa.String(length=400), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("issued", sa.BigInteger(), nullable=True),
        sa.Column("expires", sa.BigInteger(), nullable=True),
        sa.Column("last_used", sa.BigInteger(), nullable=True),
        sa.Column("manager", sa.String(length=80), nullable=True),
        sa.Column("exposed", sa.Boolean(), nullable=False),
        sa.Column("first_seen", sa.BigInteger(), nullable=False),
        sa.Column("last_seen", sa.BigInteger(), nullable=False),
        sa.Column("present", sa.Boolean(), nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["identity"], ["inventory_identity.id"], name=op.f("fk_inventory_credential_identity")),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_inventory_credential")),
    )
    op.create_index(op.f("ix_inventory_credential_identity"), "inventory_credential", ["identity"], unique=False)
    op.create_index(op.f("ix_inventory_credential_kind"), "inventory_credential", ["kind"], unique=False)
    op.create_table(
        "inventory_edge",
        sa.Column("source", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("run", sa.String(length=32), nullable=False),
        sa.Column("tail", sa.String(length=1000), nullable=False),
        sa.Column("relation", sa.String(length=20), nullable=False),
        sa.Column("head", sa.String(length=1000), nullable=False),
        sa.Column("actions", sa.Text(), nullable=False),
        sa.Column("conditions", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("place", sa.String(length=1400), nullable=False),
        sa.Column("cut", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["source"], ["inventory_source.id"], name=op.f("fk_inventory_edge_source")),
        sa.PrimaryKeyConstraint("source", "key", name=op.f("pk_inventory_edge")),
    )
    op.create_index(op.f("ix_inventory_edge_head"), "inventory_edge", ["head"], unique=False)
    op.create_index(op.f("ix_inventory_edge_tail"), "inventory_edge", ["tail"], unique=False)
    op.create_table(
        "inventory_finding",
        sa.Column("source", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("run", sa.String(length=32), nullable=False),
        sa.Column("rule", sa.String(length=80), nullable=False),
        sa.Column("severity", sa.String(length=10), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("title", sa.String(length=400), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("next_step", sa.Text(), nullable=False),
        sa.Column("subject", sa.String(length=1000), nullable=True),
        sa.Column("place", sa.String(length=1400), nullable=False),
        sa.Column("first_seen", sa.BigInteger(), nullable=False),
        sa.Column("last_seen", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["source"], ["inventory_source.id"], name=op.f("fk_inventory_finding_source")),
        sa.PrimaryKeyConstraint("source", "key", name=op.f("pk_inventory_finding")),
        sa.UniqueConstraint("id", name=op.f("uq_inventory_finding_id")),
    )
    op.create_index(op.f("ix_inventory_finding_rank"), "inventory_finding", ["rank"], unique=False)
    op.create_index(op.f("ix_inventory_finding_rule"), "inventory_finding", ["rule"], unique=False)
    op.create_index(op.f("ix_inventory_finding_severity"), "inventory_finding", ["severity"], unique=False)
    op.create_index(op.f("ix_inventory_finding_subject"), "inventory_finding", ["subject"], unique=False)
    op.create_table(
        "inventory_owner",
        sa.Column("source", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("run", sa.String(length=32), nullable=False),
        sa.Column("identity", sa.String(length=1000), nullable=False),
        sa.Column("owner", sa.String(length=200), nullable=False),
        sa.Column("method", sa.String(length=20), nullable=False),
        sa.Column("evidence", sa.String(length=1000), nullable=False),
        sa.Column("confidence", sa.Integer(), nullable=False),
        sa.Column("place", sa.String(length=1400), nullable=False),
        sa.ForeignKeyConstraint(["source"], ["inventory_source.id"], name=op.f("fk_inventory_owner_source")),
        sa.PrimaryKeyConstraint("source", "key", name=op.f("pk_inventory_owner")),
    )
    op.create_index(op.f("ix_inventory_owner_identity"), "inventory_owner", ["identity"], unique=False)
    op.create_index(op.f("ix_inventory_owner_owner"), "inventory_owner", ["owner"], unique=False)
    op.create_table(
        "inventory_sighting",
        sa.Column("source", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("node", sa.String(length=1000), nullable=False),
        sa.Column("run", sa.String(length=32), nullable=False),
        sa.Column("first_seen", sa.BigInteger(), nullable=False),
        sa.Column("last_seen", sa.BigInteger(), nullable=False),
        sa.Column("place", sa.String(length=1400), nullable=False),
        sa.Column("fact", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["source"], ["inventory_source.id"], name=op.f("fk_inventory_sighting_source")),
        sa.PrimaryKeyConstraint("source", "kind", "key", name=op.f("pk_inventory_sighting")),
    )
    op.create_index(op.f("ix_inventory_sighting_node"), "inventory_sighting", ["node"], unique=False)
