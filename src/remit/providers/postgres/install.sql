-- Installed by a superuser in every database that leases may connect to. Runs again without harm.

DO $remit$
BEGIN
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        RAISE EXCEPTION 'run this as a superuser: the functions must belong to one';
    END IF;
END $remit$;

CREATE SCHEMA IF NOT EXISTS @schema@;
REVOKE ALL ON SCHEMA @schema@ FROM PUBLIC;

@functions@

SELECT @schema@.quarantine();

-- Who did what to the schema, for leases alone: `session_user` stays the lease's name whatever it does by SET ROLE.
CREATE TABLE IF NOT EXISTS @schema@.ddl (
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    principal text NOT NULL,
    tag text NOT NULL,
    classid oid,
    objid oid
);
CREATE INDEX IF NOT EXISTS ddl_principal ON @schema@.ddl (principal);

CREATE OR REPLACE FUNCTION @schema@.note() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $remit$
BEGIN
    IF session_user ~ '^remit_@instance@_[0-9a-hjkmnp-tv-z]{26}$' THEN
        INSERT INTO @schema@.ddl (principal, tag, classid, objid)
        SELECT session_user, command_tag, nullif(classid, 0), nullif(objid, 0) FROM pg_event_trigger_ddl_commands();
    END IF;
END $remit$;

DROP EVENT TRIGGER IF EXISTS remit_@instance@_ddl;
CREATE EVENT TRIGGER remit_@instance@_ddl ON ddl_command_end EXECUTE FUNCTION @schema@.note();

-- INVARIANT: nothing here is PUBLIC's; the broker gets the verbs and not the parts that they are made of.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA @schema@ FROM PUBLIC;
GRANT USAGE ON SCHEMA @schema@ TO @broker@;
GRANT EXECUTE ON FUNCTION
    @schema@.mint(text, text, timestamptz, int, text, boolean, text),
    @schema@.renew(text[], timestamptz),
    @schema@.arm(text, int, timestamptz, text),
    @schema@.lock(text[]),
    @schema@.terminate(oid[]),
    @schema@.dirty(text[], oid[], oid[], bigint),
    @schema@.clean(text, oid, oid[], bigint, boolean, text[]),
    @schema@.remove(text[]),
    @schema@.reap()
TO @broker@;

-- A dead Remit must not leave live sessions: every 15 seconds, where pg_cron is at hand in this database.
DO $remit$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_cron') THEN
        PERFORM cron.schedule('remit_@instance@_reap', '15 seconds', 'SELECT @schema@.reap()');
    END IF;
END $remit$;
