"""first schema"""

from alembic import op

from remit.storage.schema import everything

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    everything().create_all(op.get_bind())
