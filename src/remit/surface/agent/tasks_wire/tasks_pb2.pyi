from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RunRequest(_message.Message):
    __slots__ = ("begin", "started", "ended", "fetch")
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    FETCH_FIELD_NUMBER: _ClassVar[int]
    begin: Begin
    started: Started
    ended: Ended
    fetch: Fetch
    def __init__(self, begin: _Optional[_Union[Begin, _Mapping]] = ..., started: _Optional[_Union[Started, _Mapping]] = ..., ended: _Optional[_Union[Ended, _Mapping]] = ..., fetch: _Optional[_Union[Fetch, _Mapping]] = ...) -> None: ...

class RunResponse(_message.Message):
    __slots__ = ("refused", "planned", "granted", "withdrawn", "revoked")
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
    def __init__(self, refused: _Optional[_Union[Refused, _Mapping]] = ..., planned: _Optional[_Union[Planned, _Mapping]] = ..., granted: _Optional[_Union[Granted, _Mapping]] = ..., withdrawn: _Optional[_Union[Withdrawn, _Mapping]] = ..., revoked: _Optional[_Union[Revoked, _Mapping]] = ...) -> None: ...

class Begin(_message.Message):
    __slots__ = ("task", "child_pid", "executable_fd", "script_fd", "has_script", "argv", "needs", "dry_run", "life_seconds", "reason", "lazy", "in_process", "proof", "proof_token")
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
    LAZY_FIELD_NUMBER: _ClassVar[int]
    IN_PROCESS_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    PROOF_TOKEN_FIELD_NUMBER: _ClassVar[int]
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
    lazy: bool
    in_process: bool
    proof: str
    proof_token: str
    def __init__(self, task: _Optional[str] = ..., child_pid: _Optional[int] = ..., executable_fd: _Optional[int] = ..., script_fd: _Optional[int] = ..., has_script: _Optional[bool] = ..., argv: _Optional[_Iterable[str]] = ..., needs: _Optional[_Iterable[str]] = ..., dry_run: _Optional[bool] = ..., life_seconds: _Optional[int] = ..., reason: _Optional[str] = ..., lazy: _Optional[bool] = ..., in_process: _Optional[bool] = ..., proof: _Optional[str] = ..., proof_token: _Optional[str] = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Ended(_message.Message):
    __slots__ = ("exit_code",)
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    exit_code: int
    def __init__(self, exit_code: _Optional[int] = ...) -> None: ...

class Fetch(_message.Message):
    __slots__ = ("need",)
    NEED_FIELD_NUMBER: _ClassVar[int]
    need: str
    def __init__(self, need: _Optional[str] = ...) -> None: ...

class Refused(_message.Message):
    __slots__ = ("code", "message", "next_step", "need")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    NEXT_STEP_FIELD_NUMBER: _ClassVar[int]
    NEED_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    next_step: str
    need: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., next_step: _Optional[str] = ..., need: _Optional[str] = ...) -> None: ...

class Planned(_message.Message):
    __slots__ = ("verdicts", "identity", "task_digest", "approved", "life_seconds")
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    TASK_DIGEST_FIELD_NUMBER: _ClassVar[int]
    APPROVED_FIELD_NUMBER: _ClassVar[int]
    LIFE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    verdicts: _containers.RepeatedCompositeFieldContainer[Verdict]
    identity: str
    task_digest: str
    approved: str
    life_seconds: int
    def __init__(self, verdicts: _Optional[_Iterable[_Union[Verdict, _Mapping]]] = ..., identity: _Optional[str] = ..., task_digest: _Optional[str] = ..., approved: _Optional[str] = ..., life_seconds: _Optional[int] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("need", "allowed", "reasons", "needed", "decision", "system", "target", "target_role", "database", "principal", "native_seconds", "fail_safe", "steps")
    NEED_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    NEEDED_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    TARGET_ROLE_FIELD_NUMBER: _ClassVar[int]
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    NATIVE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    FAIL_SAFE_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    need: str
    allowed: bool
    reasons: _containers.RepeatedScalarFieldContainer[str]
    needed: _containers.RepeatedScalarFieldContainer[str]
    decision: str
    system: str
    target: str
    target_role: str
    database: str
    principal: str
    native_seconds: int
    fail_safe: bool
    steps: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, need: _Optional[str] = ..., allowed: _Optional[bool] = ..., reasons: _Optional[_Iterable[str]] = ..., needed: _Optional[_Iterable[str]] = ..., decision: _Optional[str] = ..., system: _Optional[str] = ..., target: _Optional[str] = ..., target_role: _Optional[str] = ..., database: _Optional[str] = ..., principal: _Optional[str] = ..., native_seconds: _Optional[int] = ..., fail_safe: _Optional[bool] = ..., steps: _Optional[_Iterable[str]] = ...) -> None: ...

class Granted(_message.Message):
    __slots__ = ("grant", "identity", "expires_us", "credentials")
    GRANT_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_US_FIELD_NUMBER: _ClassVar[int]
    CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    grant: str
    identity: str
    expires_us: int
    credentials: _containers.RepeatedCompositeFieldContainer[Credential]
    def __init__(self, grant: _Optional[str] = ..., identity: _Optional[str] = ..., expires_us: _Optional[int] = ..., credentials: _Optional[_Iterable[_Union[Credential, _Mapping]]] = ...) -> None: ...

class Credential(_message.Message):
    __slots__ = ("need", "lease", "system", "target", "role", "settings", "secret", "fail_safe", "presentation")
    class SettingsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NEED_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    FAIL_SAFE_FIELD_NUMBER: _ClassVar[int]
    PRESENTATION_FIELD_NUMBER: _ClassVar[int]
    need: str
    lease: str
    system: str
    target: str
    role: str
    settings: _containers.ScalarMap[str, str]
    secret: str
    fail_safe: bool
    presentation: Presentation
    def __init__(self, need: _Optional[str] = ..., lease: _Optional[str] = ..., system: _Optional[str] = ..., target: _Optional[str] = ..., role: _Optional[str] = ..., settings: _Optional[_Mapping[str, str]] = ..., secret: _Optional[str] = ..., fail_safe: _Optional[bool] = ..., presentation: _Optional[_Union[Presentation, _Mapping]] = ...) -> None: ...

class Presentation(_message.Message):
    __slots__ = ("variables", "secrets", "files", "pointers", "stale", "url")
    class VariablesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class SecretsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class FilesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class PointersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    VARIABLES_FIELD_NUMBER: _ClassVar[int]
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    POINTERS_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    variables: _containers.ScalarMap[str, str]
    secrets: _containers.ScalarMap[str, str]
    files: _containers.ScalarMap[str, str]
    pointers: _containers.ScalarMap[str, str]
    stale: _containers.RepeatedScalarFieldContainer[str]
    url: str
    def __init__(self, variables: _Optional[_Mapping[str, str]] = ..., secrets: _Optional[_Mapping[str, str]] = ..., files: _Optional[_Mapping[str, str]] = ..., pointers: _Optional[_Mapping[str, str]] = ..., stale: _Optional[_Iterable[str]] = ..., url: _Optional[str] = ...) -> None: ...

class Withdrawn(_message.Message):
    __slots__ = ("lease", "need", "reason")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    NEED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    lease: str
    need: str
    reason: str
    def __init__(self, lease: _Optional[str] = ..., need: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Revoked(_message.Message):
    __slots__ = ("outcomes",)
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    def __init__(self, outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("lease", "target", "principal", "state", "refusal", "control", "trouble", "sessions_ended", "left_behind", "duration_us")
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
    def __init__(self, lease: _Optional[str] = ..., target: _Optional[str] = ..., principal: _Optional[str] = ..., state: _Optional[str] = ..., refusal: _Optional[str] = ..., control: _Optional[str] = ..., trouble: _Optional[str] = ..., sessions_ended: _Optional[int] = ..., left_behind: _Optional[_Iterable[str]] = ..., duration_us: _Optional[int] = ...) -> None: ...
