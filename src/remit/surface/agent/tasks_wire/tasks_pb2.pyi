from collections.abc import Iterable as _Iterable
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar

from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from google.protobuf.internal import containers as _containers

DESCRIPTOR: _descriptor.FileDescriptor

class RunRequest(_message.Message):
    __slots__ = ("begin", "ended", "started")
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    begin: Begin
    started: Started
    ended: Ended
    def __init__(self, begin: Begin | _Mapping | None = ..., started: Started | _Mapping | None = ..., ended: Ended | _Mapping | None = ...) -> None: ...

class RunResponse(_message.Message):
    __slots__ = ("granted", "planned", "refused", "revoked", "withdrawn")
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    PLANNED_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_FIELD_NUMBER: _ClassVar[int]
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    refused: Refused
    planned: Planned
    granted: Granted
    withdrawn: Withdrawn
    revoked: Revoked
    def __init__(self, refused: Refused | _Mapping | None = ..., planned: Planned | _Mapping | None = ..., granted: Granted | _Mapping | None = ..., withdrawn: Withdrawn | _Mapping | None = ..., revoked: Revoked | _Mapping | None = ...) -> None: ...

class Begin(_message.Message):
    __slots__ = ("argv", "child_pid", "dry_run", "executable_fd", "has_script", "life_seconds", "needs", "reason", "script_fd", "task")
    TASK_FIELD_NUMBER: _ClassVar[int]
    CHILD_PID_FIELD_NUMBER: _ClassVar[int]
    EXECUTABLE_FD_FIELD_NUMBER: _ClassVar[int]
    SCRIPT_FD_FIELD_NUMBER: _ClassVar[int]
    HAS_SCRIPT_FIELD_NUMBER: _ClassVar[int]
    ARGV_FIELD_NUMBER: _ClassVar[int]
    NEEDS_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    LIFE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    task: str
    child_pid: int
    executable_fd: int
    script_fd: int
    has_script: bool
    argv: _containers.RepeatedScalarFieldContainer[str]
    needs: _containers.RepeatedScalarFieldContainer[str]
    dry_run: bool
    life_seconds: int
    reason: str
    def __init__(self, task: str | None = ..., child_pid: int | None = ..., executable_fd: int | None = ..., script_fd: int | None = ..., has_script: bool | None = ..., argv: _Iterable[str] | None = ..., needs: _Iterable[str] | None = ..., dry_run: bool | None = ..., life_seconds: int | None = ..., reason: str | None = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Ended(_message.Message):
    __slots__ = ("exit_code",)
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    exit_code: int
    def __init__(self, exit_code: int | None = ...) -> None: ...

class Refused(_message.Message):
    __slots__ = ("code", "message", "next_step")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    NEXT_STEP_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    next_step: str
    def __init__(self, code: str | None = ..., message: str | None = ..., next_step: str | None = ...) -> None: ...

class Planned(_message.Message):
    __slots__ = ("identity", "task_digest", "verdicts")
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    TASK_DIGEST_FIELD_NUMBER: _ClassVar[int]
    verdicts: _containers.RepeatedCompositeFieldContainer[Verdict]
    identity: str
    task_digest: str
    def __init__(self, verdicts: _Iterable[Verdict | _Mapping] | None = ..., identity: str | None = ..., task_digest: str | None = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("allowed", "decision", "need", "needed", "reasons")
    NEED_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    NEEDED_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    need: str
    allowed: bool
    reasons: _containers.RepeatedScalarFieldContainer[str]
    needed: _containers.RepeatedScalarFieldContainer[str]
    decision: str
    def __init__(self, need: str | None = ..., allowed: bool | None = ..., reasons: _Iterable[str] | None = ..., needed: _Iterable[str] | None = ..., decision: str | None = ...) -> None: ...

class Granted(_message.Message):
    __slots__ = ("credentials", "expires_us", "grant", "identity")
    GRANT_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_US_FIELD_NUMBER: _ClassVar[int]
    CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    grant: str
    identity: str
    expires_us: int
    credentials: _containers.RepeatedCompositeFieldContainer[Credential]
    def __init__(self, grant: str | None = ..., identity: str | None = ..., expires_us: int | None = ..., credentials: _Iterable[Credential | _Mapping] | None = ...) -> None: ...

class Credential(_message.Message):
    __slots__ = ("fail_safe", "lease", "need", "role", "secret", "settings", "system", "target")
    class SettingsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: str | None = ..., value: str | None = ...) -> None: ...
    NEED_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    FAIL_SAFE_FIELD_NUMBER: _ClassVar[int]
    need: str
    lease: str
    system: str
    target: str
    role: str
    settings: _containers.ScalarMap[str, str]
    secret: str
    fail_safe: bool
    def __init__(self, need: str | None = ..., lease: str | None = ..., system: str | None = ..., target: str | None = ..., role: str | None = ..., settings: _Mapping[str, str] | None = ..., secret: str | None = ..., fail_safe: bool | None = ...) -> None: ...

class Withdrawn(_message.Message):
    __slots__ = ("lease", "need", "reason")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    NEED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    lease: str
    need: str
    reason: str
    def __init__(self, lease: str | None = ..., need: str | None = ..., reason: str | None = ...) -> None: ...

class Revoked(_message.Message):
    __slots__ = ("outcomes",)
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    def __init__(self, outcomes: _Iterable[Outcome | _Mapping] | None = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("control", "duration_us", "lease", "left_behind", "principal", "refusal", "sessions_ended", "state", "target", "trouble")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    CONTROL_FIELD_NUMBER: _ClassVar[int]
    TROUBLE_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_ENDED_FIELD_NUMBER: _ClassVar[int]
    LEFT_BEHIND_FIELD_NUMBER: _ClassVar[int]
    DURATION_US_FIELD_NUMBER: _ClassVar[int]
    lease: str
    target: str
    principal: str
    state: str
    refusal: str
    control: str
    trouble: str
    sessions_ended: int
    left_behind: _containers.RepeatedScalarFieldContainer[str]
    duration_us: int
    def __init__(self, lease: str | None = ..., target: str | None = ..., principal: str | None = ..., state: str | None = ..., refusal: str | None = ..., control: str | None = ..., trouble: str | None = ..., sessions_ended: int | None = ..., left_behind: _Iterable[str] | None = ..., duration_us: int | None = ...) -> None: ...
