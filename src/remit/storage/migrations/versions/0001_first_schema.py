"""first schema"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "access_enforcer",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("spiffe_id", sa.String(length=2048), nullable=False),
        sa.Column("uid", sa.BigInteger(), nullable=True),
        sa.Column("fulfils", sa.Text(), nullable=False),
        sa.Column("vouches", sa.Text(), nullable=False),
        sa.Column("resources", sa.Text(), nullable=False),
        sa.Column("actions", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=400), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_enforcer")),
        sa.UniqueConstraint("name", name=op.f("uq_access_enforcer_name")),
    )
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
        sa.Column("terms", sa.Text(), nullable=True),
        sa.Column("review", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_grant")),
    )
    op.create_index(op.f("ix_access_grant_identity"), "access_grant", ["identity"], unique=False)
    op.create_index("ix_access_grant_state_id", "access_grant", ["state", "id"], unique=False)
    op.create_index("ix_access_grant_task_state", "access_grant", ["task", "state"], unique=False)
    op.create_table(
        "access_holder",
        sa.Column("holder", sa.String(length=40), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("holder", name=op.f("pk_access_holder")),
    )
    op.create_table(
        "access_intent",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("task", sa.String(length=128), nullable=False),
        sa.Column("agent", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("requested_by", sa.String(length=400), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("approver", sa.String(length=400), nullable=False),
        sa.Column("approved", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_intent")),
    )
    op.create_index(op.f("ix_access_intent_task"), "access_intent", ["task"], unique=False)
    op.create_table(
        "access_intent_session",
        sa.Column("intent", sa.String(length=32), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("started", sa.BigInteger(), nullable=False),
        sa.Column("tainted", sa.BigInteger(), nullable=True),
        sa.Column("ended", sa.BigInteger(), nullable=True),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("intent", name=op.f("pk_access_intent_session")),
    )
    op.create_index(op.f("ix_access_intent_session_ended"), "access_intent_session", ["ended"], unique=False)
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
        sa.Column("cases", sa.Text(), nullable=False),
        sa.Column("invariants", sa.Text(), nullable=False),
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
        "access_rotation",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.String(length=400), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_access_rotation")),
    )
    op.create_table(
        "access_rotation_run",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("plan", sa.String(length=64), nullable=False),
        sa.Column("phase", sa.String(length=16), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("started", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.String(length=400), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_rotation_run")),
    )
    op.create_index("ix_access_rotation_run_phase", "access_rotation_run", ["phase"], unique=False)
    op.create_index("ix_access_rotation_run_plan", "access_rotation_run", ["plan"], unique=False)
    op.create_table(
        "access_run",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("task", sa.String(length=80), nullable=False),
        sa.Column("identity", sa.String(length=1000), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("sender", sa.String(length=2048), nullable=False),
        sa.Column("key", sa.String(length=80), nullable=False),
        sa.Column("asked", sa.String(length=80), nullable=False),
        sa.Column("grant_id", sa.String(length=32), nullable=False),
        sa.Column("heartbeat", sa.Integer(), nullable=False),
        sa.Column("beats", sa.Integer(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("boot", sa.String(length=40), nullable=False),
        sa.Column("ticks", sa.Float(), nullable=False),
        sa.Column("begun", sa.BigInteger(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=True),
        sa.Column("why", sa.String(length=1000), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_run")),
    )
    op.create_index("ix_access_run_ended", "access_run", ["ended"], unique=False)
    op.create_index("ix_access_run_key", "access_run", ["key"], unique=True)
    op.create_table(
        "access_secret",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("resources", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.String(length=80), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=400), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.Column("changed_by", sa.String(length=400), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_access_secret")),
    )
    op.create_table(
        "access_secret_change",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("sealed_old", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_new", sa.LargeBinary(), nullable=False),
        sa.Column("begun", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_access_secret_change")),
    )
    op.create_table(
        "access_segment",
        sa.Column("target", sa.String(length=64), nullable=False),
        sa.Column("form", sa.String(length=16), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("signature", sa.String(length=400), nullable=False),
        sa.PrimaryKeyConstraint("target", "form", name=op.f("pk_access_segment")),
    )
    op.create_table(
        "access_segment_place",
        sa.Column("subject", sa.String(length=96), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("signature", sa.String(length=400), nullable=False),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_access_segment_place")),
    )
    op.create_table(
        "access_segment_probe",
        sa.Column("target", sa.String(length=64), nullable=False),
        sa.Column("form", sa.String(length=16), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("signature", sa.String(length=400), nullable=False),
        sa.PrimaryKeyConstraint("target", "form", name=op.f("pk_access_segment_probe")),
    )
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
        "access_tool",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("definition", sa.String(length=80), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("label", sa.String(length=16), nullable=False),
        sa.Column("clearance", sa.String(length=16), nullable=False),
        sa.Column("trusted", sa.Boolean(), nullable=False),
        sa.Column("approved", sa.BigInteger(), nullable=False),
        sa.Column("approved_by", sa.String(length=400), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_access_tool")),
    )
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
        "defense_leak",
        sa.Column("fingerprint", sa.String(length=140), nullable=False),
        sa.Column("stage", sa.String(length=20), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("found", sa.BigInteger(), nullable=False),
        sa.Column("moved", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_defense_leak")),
    )
    op.create_index("ix_defense_leak_stage", "defense_leak", ["stage"], unique=False)
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
        "governance_ask",
        sa.Column("identity", sa.String(length=32), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("asked", sa.String(length=200), nullable=False),
        sa.Column("why", sa.String(length=400), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("deadline", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.PrimaryKeyConstraint("identity", name=op.f("pk_governance_ask")),
    )
    op.create_index("ix_governance_ask_due", "governance_ask", ["status", "deadline"], unique=False)
    op.create_table(
        "governance_conversion",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("identity", sa.String(length=32), nullable=False),
        sa.Column("phase", sa.String(length=16), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.String(length=400), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_governance_conversion")),
    )
    op.create_index(op.f("ix_governance_conversion_identity"), "governance_conversion", ["identity"], unique=False)
    op.create_index(op.f("ix_governance_conversion_phase"), "governance_conversion", ["phase"], unique=False)
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
        "governance_group",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("members", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_governance_group")),
    )
    op.create_index(op.f("ix_governance_group_source"), "governance_group", ["source"], unique=False)
    op.create_table(
        "governance_group_member",
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.PrimaryKeyConstraint("email", "name", name=op.f("pk_governance_group_member")),
    )
    op.create_table(
        "governance_member",
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("display", sa.String(length=200), nullable=False),
        sa.Column("manager", sa.String(length=254), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=True),
        sa.Column("left", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("email", name=op.f("pk_governance_member")),
    )
    op.create_index(op.f("ix_governance_member_manager"), "governance_member", ["manager"], unique=False)
    op.create_index(op.f("ix_governance_member_source"), "governance_member", ["source"], unique=False)
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
        "governance_proof_binding",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("enforcer", sa.String(length=32), nullable=False),
        sa.Column("identities", sa.Text(), nullable=False),
        sa.Column("resources", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=400), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_governance_proof_binding")),
    )
    op.create_table(
        "governance_radius",
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("score", sa.BigInteger(), nullable=False),
        sa.Column("certain_score", sa.BigInteger(), nullable=False),
        sa.Column("resources", sa.BigInteger(), nullable=False),
        sa.Column("becomes", sa.BigInteger(), nullable=False),
        sa.Column("by_sensitivity", sa.Text(), nullable=False),
        sa.Column("highest", sa.BigInteger(), nullable=False),
        sa.Column("changes", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("subject", "day", name=op.f("pk_governance_radius")),
    )
    op.create_index(op.f("ix_governance_radius_day"), "governance_radius", ["day"], unique=False)
    op.create_table(
        "governance_rightsizing",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("identity", sa.String(length=32), nullable=False),
        sa.Column("phase", sa.String(length=16), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("signature", sa.String(length=400), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_governance_rightsizing")),
    )
    op.create_index(op.f("ix_governance_rightsizing_identity"), "governance_rightsizing", ["identity"], unique=False)
    op.create_index(op.f("ix_governance_rightsizing_phase"), "governance_rightsizing", ["phase"], unique=False)
    op.create_table(
        "governance_scream",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("identity", sa.String(length=32), nullable=False),
        sa.Column("environment", sa.String(length=200), nullable=False),
        sa.Column("phase", sa.String(length=16), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("signature", sa.String(length=400), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_governance_scream")),
    )
    op.create_index(op.f("ix_governance_scream_identity"), "governance_scream", ["identity"], unique=False)
    op.create_index(op.f("ix_governance_scream_phase"), "governance_scream", ["phase"], unique=False)
    op.create_table(
        "governance_standing",
        sa.Column("identity", sa.String(length=32), nullable=False),
        sa.Column("head", sa.String(length=1000), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("seen", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("level", sa.String(length=20), nullable=False),
        sa.Column("actions", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("identity", "head", "since", name=op.f("pk_governance_standing")),
    )
    op.create_index(op.f("ix_governance_standing_until"), "governance_standing", ["until"], unique=False)
    op.create_table(
        "governance_standing_day",
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("privileged_hours", sa.Float(), nullable=True),
        sa.Column("right_hours", sa.Float(), nullable=True),
        sa.Column("granted_hours", sa.Float(), nullable=False),
        sa.Column("identities", sa.Integer(), nullable=False),
        sa.Column("final", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_governance_standing_day")),
    )
    op.create_table(
        "governance_team",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("lead", sa.String(length=64), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("registered", sa.BigInteger(), nullable=False),
        sa.Column("registered_by", sa.String(length=200), nullable=False),
        sa.Column("members", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_governance_team")),
    )
    op.create_index(op.f("ix_governance_team_lead"), "governance_team", ["lead"], unique=False)
    op.create_table(
        "governance_team_proposal",
        sa.Column("team", sa.String(length=128), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("team", name=op.f("pk_governance_team_proposal")),
    )
    op.create_table(
        "governance_tier_proposal",
        sa.Column("identity", sa.String(length=32), nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tier", sa.Integer(), nullable=True),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("signature", sa.String(length=400), nullable=False),
        sa.PrimaryKeyConstraint("identity", name=op.f("pk_governance_tier_proposal")),
    )
    op.create_table(
        "governance_word",
        sa.Column("identity", sa.String(length=32), nullable=False),
        sa.Column("field", sa.String(length=20), nullable=False),
        sa.Column("value", sa.String(length=400), nullable=False),
        sa.Column("by", sa.String(length=200), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(length=1000), nullable=False),
        sa.Column("before", sa.String(length=400), nullable=True),
        sa.PrimaryKeyConstraint("identity", "field", name=op.f("pk_governance_word")),
    )
    op.create_table(
        "inventory_deed",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=1000), nullable=False),
        sa.Column("action", sa.String(length=200), nullable=False),
        sa.Column("resource", sa.String(length=600), nullable=False),
        sa.Column("wide", sa.Boolean(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("refused", sa.BigInteger(), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("days", sa.Text(), nullable=False),
        sa.Column("addresses", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inventory_deed")),
    )
    op.create_index(op.f("ix_inventory_deed_name"), "inventory_deed", ["name"], unique=False)
    op.create_table(
        "inventory_deed_beyond",
        sa.Column("name", sa.String(length=1000), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_inventory_deed_beyond")),
    )
    op.create_table(
        "inventory_history",
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("key", sa.String(length=140), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("one", sa.String(length=1000), nullable=False),
        sa.Column("two", sa.String(length=1000), nullable=True),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "key", "since", name=op.f("pk_inventory_history")),
    )
    op.create_index(op.f("ix_inventory_history_one"), "inventory_history", ["one"], unique=False)
    op.create_index("ix_inventory_history_since", "inventory_history", ["since"], unique=False)
    op.create_index(op.f("ix_inventory_history_two"), "inventory_history", ["two"], unique=False)
    op.create_index(
        "ix_inventory_history_until",
        "inventory_history",
        ["until"],
        unique=False,
        sqlite_where=sa.text("until IS NOT NULL"),
        postgresql_where=sa.text("until IS NOT NULL"),
    )
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
    op.create_index(
        "ix_inventory_identity_by_environment",
        "inventory_identity",
        ["environment", "id", "present", "merged_into"],
        unique=False,
        sqlite_where=sa.text("present = 1 AND merged_into IS NULL"),
        postgresql_where=sa.text("present AND merged_into IS NULL"),
    )
    op.create_index(
        "ix_inventory_identity_by_first_seen",
        "inventory_identity",
        ["first_seen", "id", "present", "merged_into"],
        unique=False,
        sqlite_where=sa.text("present = 1 AND merged_into IS NULL"),
        postgresql_where=sa.text("present AND merged_into IS NULL"),
    )
    op.create_index(
        "ix_inventory_identity_by_kind",
        "inventory_identity",
        ["kind", "id", "present", "merged_into"],
        unique=False,
        sqlite_where=sa.text("present = 1 AND merged_into IS NULL"),
        postgresql_where=sa.text("present AND merged_into IS NULL"),
    )
    op.create_index(
        "ix_inventory_identity_by_last_seen",
        "inventory_identity",
        ["last_seen", "id", "present", "merged_into"],
        unique=False,
        sqlite_where=sa.text("present = 1 AND merged_into IS NULL"),
        postgresql_where=sa.text("present AND merged_into IS NULL"),
    )
    op.create_index(
        "ix_inventory_identity_by_last_used",
        "inventory_identity",
        ["last_used", "id", "present", "merged_into"],
        unique=False,
        sqlite_where=sa.text("present = 1 AND merged_into IS NULL"),
        postgresql_where=sa.text("present AND merged_into IS NULL"),
    )
    op.create_index(
        "ix_inventory_identity_by_owner",
        "inventory_identity",
        ["owner", "id", "present", "merged_into"],
        unique=False,
        sqlite_where=sa.text("present = 1 AND merged_into IS NULL"),
        postgresql_where=sa.text("present AND merged_into IS NULL"),
    )
    op.create_index(
        "ix_inventory_identity_by_state",
        "inventory_identity",
        ["state", "id", "present", "merged_into"],
        unique=False,
        sqlite_where=sa.text("present = 1 AND merged_into IS NULL"),
        postgresql_where=sa.text("present AND merged_into IS NULL"),
    )
    op.create_index(
        "ix_inventory_identity_by_system",
        "inventory_identity",
        ["system", "id", "present", "merged_into"],
        unique=False,
        sqlite_where=sa.text("present = 1 AND merged_into IS NULL"),
        postgresql_where=sa.text("present AND merged_into IS NULL"),
    )
    op.create_index(
        "ix_inventory_identity_by_tier",
        "inventory_identity",
        ["tier", "id", "present", "merged_into"],
        unique=False,
        sqlite_where=sa.text("present = 1 AND merged_into IS NULL"),
        postgresql_where=sa.text("present AND merged_into IS NULL"),
    )
    op.create_index(
        "ix_inventory_identity_by_title",
        "inventory_identity",
        ["title", "id", "present", "merged_into"],
        unique=False,
        sqlite_where=sa.text("present = 1 AND merged_into IS NULL"),
        postgresql_where=sa.text("present AND merged_into IS NULL"),
    )
    op.create_index(
        "ix_inventory_identity_filters",
        "inventory_identity",
        ["kind", "system", "environment", "state", "privileged", "owner", "id", "present", "merged_into"],
        unique=False,
        sqlite_where=sa.text("present = 1 AND merged_into IS NULL"),
        postgresql_where=sa.text("present AND merged_into IS NULL"),
    )
    op.create_index(
        "ix_inventory_identity_merged_into",
        "inventory_identity",
        ["merged_into"],
        unique=False,
        sqlite_where=sa.text("merged_into IS NOT NULL"),
        postgresql_where=sa.text("merged_into IS NOT NULL"),
    )
    op.create_index(op.f("ix_inventory_identity_owner"), "inventory_identity", ["owner"], unique=False)
    op.create_index(
        "ix_inventory_identity_privileged",
        "inventory_identity",
        ["system", "environment", "kind", "state", "owner", "id", "present", "merged_into", "privileged"],
        unique=False,
        sqlite_where=sa.text("present = 1 AND merged_into IS NULL AND privileged = 1"),
        postgresql_where=sa.text("present AND merged_into IS NULL AND privileged"),
    )
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
        sa.Column("record_of", sa.Text(), nullable=False),
        sa.Column("attempt", sa.String(length=32), nullable=False),
        sa.Column("asked", sa.String(length=64), nullable=False),
        sa.Column("marks", sa.Text(), nullable=True),
        sa.Column("marks_new", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inventory_source")),
    )
    op.create_index("uq_inventory_source_place", "inventory_source", ["connector", "instance", "scope"], unique=True)
    op.create_table(
        "inventory_tally",
        sa.Column("field", sa.String(length=20), nullable=False),
        sa.Column("value", sa.String(length=80), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("field", "value", name=op.f("pk_inventory_tally")),
    )
    op.create_table(
        "inventory_use",
        sa.Column("name", sa.String(length=1000), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=True),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("days", sa.Text(), nullable=False),
        sa.Column("consumers", sa.Text(), nullable=False),
        sa.Column("environments", sa.Text(), nullable=False),
        sa.Column("people", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_inventory_use")),
    )
    op.create_table(
        "inventory_use_log",
        sa.Column("log", sa.String(length=200), nullable=False),
        sa.Column("system", sa.String(length=40), nullable=False),
        sa.Column("instance", sa.String(length=200), nullable=False),
        sa.Column("end", sa.BigInteger(), nullable=False),
        sa.Column("read", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("log", name=op.f("pk_inventory_use_log")),
    )
    op.create_index("ix_inventory_use_log_system", "inventory_use_log", ["system", "instance", "read"], unique=False)
    op.create_table(
        "inventory_use_window",
        sa.Column("system", sa.String(length=40), nullable=False),
        sa.Column("instance", sa.String(length=200), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("read", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("system", "instance", name=op.f("pk_inventory_use_window")),
    )
    op.create_table(
        "inventory_view",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("query", sa.String(length=2000), nullable=False),
        sa.Column("by", sa.String(length=200), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_inventory_view")),
    )
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
        "token_client",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("identity", sa.String(length=32), nullable=False),
        sa.Column("spiffe_id", sa.String(length=2048), nullable=False),
        sa.Column("keys", sa.Text(), nullable=False),
        sa.Column("resources", sa.Text(), nullable=False),
        sa.Column("sensitivity", sa.String(length=16), nullable=False),
        sa.Column("may_act", sa.String(length=2048), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token_client")),
        sa.UniqueConstraint("name", name=op.f("uq_token_client_name")),
    )
    op.create_index(op.f("ix_token_client_identity"), "token_client", ["identity"], unique=False)
    op.create_table(
        "token_grant",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("identity", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.String(length=2048), nullable=False),
        sa.Column("actors", sa.Text(), nullable=False),
        sa.Column("resources", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("anchor", sa.String(length=32), nullable=False),
        sa.Column("decisions", sa.Text(), nullable=False),
        sa.Column("method", sa.String(length=40), nullable=False),
        sa.Column("attested", sa.Boolean(), nullable=False),
        sa.Column("attested_at", sa.BigInteger(), nullable=True),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token_grant")),
    )
    op.create_index(op.f("ix_token_grant_expires"), "token_grant", ["expires"], unique=False)
    op.create_index(op.f("ix_token_grant_identity"), "token_grant", ["identity"], unique=False)
    op.create_table(
        "token_spent",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_token_spent")),
    )
    op.create_index(op.f("ix_token_spent_until"), "token_spent", ["until"], unique=False)
    op.create_table(
        "trust_agent",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("spiffe_id", sa.String(length=2048), nullable=False),
        sa.Column("attestor", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("selectors", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("serial", sa.String(length=64), nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=False),
        sa.Column("evidence", sa.String(length=80), nullable=False),
        sa.Column("attested", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("seen", sa.BigInteger(), nullable=True),
        sa.Column("software", sa.String(length=80), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trust_agent")),
        sa.UniqueConstraint("spiffe_id", name=op.f("uq_trust_agent_spiffe_id")),
    )
    op.create_table(
        "trust_authority",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("public", sa.LargeBinary(), nullable=False),
        sa.Column("chain", sa.Text(), nullable=False),
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
        "trust_downstream",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("spiffe_id", sa.String(length=2048), nullable=False),
        sa.Column("lifetime", sa.Integer(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.String(length=400), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trust_downstream")),
        sa.UniqueConstraint("spiffe_id", name=op.f("uq_trust_downstream_spiffe_id")),
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
        sa.Column("federates_with", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trust_entry")),
        sa.UniqueConstraint("key", name=op.f("uq_trust_entry_key")),
    )
    op.create_index(op.f("ix_trust_entry_identity"), "trust_entry", ["identity"], unique=False)
    op.create_table(
        "trust_fallen",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("authority", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("revocation", sa.String(length=32), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trust_fallen")),
    )
    op.create_index(op.f("ix_trust_fallen_revocation"), "trust_fallen", ["revocation"], unique=False)
    op.create_table(
        "trust_foreign_bundle",
        sa.Column("trust_domain", sa.String(length=255), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("fetched", sa.BigInteger(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("trust_domain", name=op.f("pk_trust_foreign_bundle")),
    )
    op.create_table(
        "trust_issued",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("spiffe_id", sa.String(length=2048), nullable=False),
        sa.Column("entry", sa.String(length=32), nullable=False),
        sa.Column("identity", sa.String(length=32), nullable=False),
        sa.Column("agent", sa.String(length=32), nullable=False),
        sa.Column("authority", sa.String(length=32), nullable=False),
        sa.Column("grant", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("issued", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trust_issued")),
    )
    op.create_index(op.f("ix_trust_issued_entry"), "trust_issued", ["entry"], unique=False)
    op.create_index(op.f("ix_trust_issued_expires"), "trust_issued", ["expires"], unique=False)
    op.create_index(op.f("ix_trust_issued_identity"), "trust_issued", ["identity"], unique=False)
    op.create_table(
        "trust_join_token",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("spent", sa.BigInteger(), nullable=True),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trust_join_token")),
    )
    op.create_index(op.f("ix_trust_join_token_expires"), "trust_join_token", ["expires"], unique=False)
    op.create_table(
        "trust_proof_seen",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("attestor", sa.String(length=32), nullable=False),
        sa.Column("seen", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_trust_proof_seen")),
    )
    op.create_index(op.f("ix_trust_proof_seen_until"), "trust_proof_seen", ["until"], unique=False)
    op.create_table(
        "trust_relation",
        sa.Column("trust_domain", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("url", sa.String(length=2000), nullable=False),
        sa.Column("profile", sa.String(length=16), nullable=False),
        sa.Column("endpoint_id", sa.String(length=2048), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("ids", sa.Text(), nullable=False),
        sa.Column("resources", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", sa.String(length=200), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("trust_domain", name=op.f("pk_trust_relation")),
        sa.UniqueConstraint("id", name=op.f("uq_trust_relation_id")),
    )
    op.create_table(
        "trust_revocation",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("members", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("blocks", sa.Boolean(), nullable=False),
        sa.Column("fell", sa.Text(), nullable=False),
        sa.Column("kept", sa.Boolean(), nullable=False),
        sa.Column("restored_at", sa.BigInteger(), nullable=True),
        sa.Column("restored_by", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trust_revocation")),
        sa.UniqueConstraint("version", name=op.f("uq_trust_revocation_version")),
    )
    op.create_table(
        "trust_revocation_clock",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trust_revocation_clock")),
    )
    op.create_table(
        "trust_status_list",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seed", sa.LargeBinary(), nullable=False),
        sa.Column("given", sa.Integer(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trust_status_list")),
    )
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
        "inventory_apart",
        sa.Column("one", sa.String(length=32), nullable=False),
        sa.Column("other", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=1000), nullable=False),
        sa.Column("by", sa.String(length=200), nullable=False),
        sa.Column("reason", sa.String(length=1000), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["one"], ["inventory_identity.id"], name=op.f("fk_inventory_apart_one")),
        sa.ForeignKeyConstraint(["other"], ["inventory_identity.id"], name=op.f("fk_inventory_apart_other")),
        sa.PrimaryKeyConstraint("one", "other", name=op.f("pk_inventory_apart")),
    )
    op.create_index(op.f("ix_inventory_apart_other"), "inventory_apart", ["other"], unique=False)
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
    op.create_index("ix_inventory_credential_expires", "inventory_credential", ["expires", "identity"], unique=False)
    op.create_index(
        "ix_inventory_credential_exposed",
        "inventory_credential",
        ["identity"],
        unique=False,
        sqlite_where=sa.text("exposed = 1 AND present = 1"),
        postgresql_where=sa.text("exposed AND present"),
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
        sa.Column("confidence", sa.Integer(), nullable=False),
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
        sa.Column("changed", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["source"], ["inventory_source.id"], name=op.f("fk_inventory_finding_source")),
        sa.PrimaryKeyConstraint("source", "key", name=op.f("pk_inventory_finding")),
        sa.UniqueConstraint("id", name=op.f("uq_inventory_finding_id")),
    )
    op.create_index(op.f("ix_inventory_finding_rank"), "inventory_finding", ["rank"], unique=False)
    op.create_index(op.f("ix_inventory_finding_rule"), "inventory_finding", ["rule"], unique=False)
    op.create_index(op.f("ix_inventory_finding_severity"), "inventory_finding", ["severity"], unique=False)
    op.create_index(op.f("ix_inventory_finding_subject"), "inventory_finding", ["subject"], unique=False)
    op.create_table(
        "inventory_join",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=1000), nullable=False),
        sa.Column("other", sa.String(length=1000), nullable=False),
        sa.Column("how", sa.String(length=20), nullable=False),
        sa.Column("source", sa.String(length=32), nullable=True),
        sa.Column("by", sa.String(length=200), nullable=False),
        sa.Column("evidence", sa.String(length=1000), nullable=False),
        sa.Column("confidence", sa.Integer(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("last_seen", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["source"], ["inventory_source.id"], name=op.f("fk_inventory_join_source")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_inventory_join")),
    )
    op.create_index(op.f("ix_inventory_join_name"), "inventory_join", ["name"], unique=False)
    op.create_index(op.f("ix_inventory_join_other"), "inventory_join", ["other"], unique=False)
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
        sa.Column("at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["source"], ["inventory_source.id"], name=op.f("fk_inventory_owner_source")),
        sa.PrimaryKeyConstraint("source", "key", name=op.f("pk_inventory_owner")),
    )
    op.create_index(op.f("ix_inventory_owner_identity"), "inventory_owner", ["identity"], unique=False)
    op.create_index(op.f("ix_inventory_owner_owner"), "inventory_owner", ["owner"], unique=False)
    op.create_table(
        "inventory_reading",
        sa.Column("source", sa.String(length=32), nullable=False),
        sa.Column("asked", sa.Text(), nullable=False),
        sa.Column("begun", sa.BigInteger(), nullable=True),
        sa.Column("finished", sa.BigInteger(), nullable=True),
        sa.Column("diff", sa.Text(), nullable=True),
        sa.Column("plan", sa.Text(), nullable=True),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=True),
        sa.Column("tried", sa.BigInteger(), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("trouble", sa.String(length=1000), nullable=False),
        sa.ForeignKeyConstraint(["source"], ["inventory_source.id"], name=op.f("fk_inventory_reading_source")),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_inventory_reading")),
    )
    op.create_index(op.f("ix_inventory_reading_due"), "inventory_reading", ["due"], unique=False)
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
