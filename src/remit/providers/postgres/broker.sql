-- What a broker does on a server, as functions: one text for both ways of running it.
--
--   * directly: the functions are made in `pg_temp`, run with the rights of the administrator that connects,
--     and vanish with its session;
--   * installed: they lie in the schema `remit_<instance>`, belong to a superuser and are SECURITY DEFINER, so that
--     the broker's own login needs no right at all but EXECUTE on them.
--
-- @schema@, @security@, @instance@ and @groups@ are filled in by `script.py`; nothing else is, and values are arguments.
-- INVARIANT: a function acts only on roles that match `guard`, and grants only groups of the allow-list.

CREATE OR REPLACE FUNCTION @schema@.guard(principals text[]) RETURNS void
LANGUAGE plpgsql @security@ AS $remit$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY principals LOOP
        IF name IS NULL OR name !~ '^remit_@instance@_[0-9a-hjkmnp-tv-z]{26}$' THEN
            RAISE EXCEPTION 'not a principal of this installation' USING ERRCODE = 'RM001';
        END IF;
    END LOOP;
END $remit$;

-- The role without rights to which everything goes that a lease leaves behind.
CREATE OR REPLACE FUNCTION @schema@.quarantine() RETURNS text
LANGUAGE plpgsql @security@ AS $remit$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'remit_@instance@_quarantine') THEN
        IF current_setting('server_version_num')::int >= 160000 THEN
            -- A maker of roles that is no superuser keeps the right to put things under what it makes.
            PERFORM set_config('createrole_self_grant', 'set, inherit', true);
        END IF;
        BEGIN
            CREATE ROLE remit_@instance@_quarantine NOLOGIN NOINHERIT;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;  -- another session was quicker
        END;
    END IF;
    RETURN 'remit_@instance@_quarantine';
END $remit$;

-- Make a credential, or make sure that it exists: the same order twice is one credential.
CREATE OR REPLACE FUNCTION @schema@.mint(
    principal text, verifier text, until timestamptz, connections int, grp text, own boolean, label text
) RETURNS oid
LANGUAGE plpgsql @security@ AS $remit$
DECLARE
    may_login boolean;
    since text;
    id oid;
BEGIN
    PERFORM @schema@.guard(ARRAY[principal]);
    IF NOT grp = ANY (@groups@) THEN
        RAISE EXCEPTION 'the group is not on the allow-list' USING ERRCODE = 'RM002';
    END IF;
    IF verifier !~ '^SCRAM-SHA-256\$[0-9]+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+$' THEN
        RAISE EXCEPTION 'not a SCRAM verifier' USING ERRCODE = 'RM003';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = grp) THEN
        RAISE EXCEPTION 'there is no such group' USING ERRCODE = 'RM004';
    END IF;
    -- Who acts as a role may change its password: that must not open a login which outlives the lease.
    IF EXISTS (SELECT FROM pg_roles r WHERE r.rolname = grp AND r.rolcanlogin) THEN
        RAISE EXCEPTION 'the group can log in' USING ERRCODE = 'RM007';
    END IF;
    -- A superuser, or who can make roles or run programs, can undo every revocation.
    IF EXISTS (
        WITH RECURSIVE above(oid) AS (
            SELECT r.oid FROM pg_roles r WHERE r.rolname = grp
            UNION SELECT m.roleid FROM pg_auth_members m JOIN above a ON m.member = a.oid
        )
        SELECT FROM above JOIN pg_roles r USING (oid)
        WHERE r.rolsuper OR r.rolcreaterole OR r.rolreplication
           OR r.rolname IN ('pg_execute_server_program', 'pg_write_server_files', 'pg_read_server_files')
    ) THEN
        RAISE EXCEPTION 'the group is too powerful for a lease' USING ERRCODE = 'RM005';
    END IF;
    -- A crash of the server may forget what was minted a moment ago: then nobody can log in by it, and nothing is lost.
    PERFORM set_config('synchronous_commit', 'off', true);
    IF current_setting('server_version_num')::int >= 160000 THEN
        -- And to kill and clean it.
        PERFORM set_config('createrole_self_grant', 'set, inherit', true);
    END IF;

    SELECT r.oid, r.rolcanlogin INTO id, may_login FROM pg_roles r WHERE r.rolname = principal;
    IF id IS NOT NULL AND NOT may_login THEN
        RAISE EXCEPTION 'the credential is being revoked' USING ERRCODE = 'RM006';
    END IF;
    -- Somebody else made it, who knows with which rights, and may hold sessions of it: it is no lease.
    IF id IS NOT NULL
       AND left(shobj_description(id, 'pg_authid'), length(label) + 7) IS DISTINCT FROM label || ' since=' THEN
        RAISE EXCEPTION 'the name is taken' USING ERRCODE = 'RM008';
    END IF;
    IF id IS NULL THEN
        EXECUTE format(
            'CREATE ROLE %I LOGIN %s PASSWORD %L VALID UNTIL %L CONNECTION LIMIT %s',
            principal, CASE WHEN own THEN 'INHERIT' ELSE 'NOINHERIT' END, verifier, until, connections);
        SELECT r.oid INTO id FROM pg_roles r WHERE r.rolname = principal;
        since := pg_current_xact_id()::text;
    ELSE
        EXECUTE format(
            'ALTER ROLE %I PASSWORD %L VALID UNTIL %L CONNECTION LIMIT %s', principal, verifier, until, connections);
        since := substring(shobj_description(id, 'pg_authid') FROM ' since=([0-9]+)$');
    END IF;
    IF NOT EXISTS (
        SELECT FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = id AND g.rolname = grp
    ) THEN
        IF own AND current_setting('server_version_num')::int >= 160000 THEN
            EXECUTE format('GRANT %I TO %I WITH INHERIT TRUE, SET FALSE', grp, principal);
        ELSE
            EXECUTE format('GRANT %I TO %I', grp, principal);
        END IF;
    END IF;
    IF NOT own AND '@security@' = '' THEN
        EXECUTE format('ALTER ROLE %I SET role = %L', principal, grp);
    ELSIF NOT own AND NOT EXISTS (SELECT FROM pg_db_role_setting c WHERE c.setrole = id) THEN
        -- What ALTER ROLE … SET role writes: the statement itself is refused inside a SECURITY DEFINER function.
        INSERT INTO pg_db_role_setting (setdatabase, setrole, setconfig) VALUES (0, id, ARRAY['role=' || grp]);
    END IF;
    -- `since` is what the target's own clock of transactions says: all that is younger may be the lease's work.
    EXECUTE format('COMMENT ON ROLE %I IS %L', principal, label || ' since=' || coalesce(since, '0'));
    RETURN id;
END $remit$;

CREATE OR REPLACE FUNCTION @schema@.renew(principals text[], until timestamptz) RETURNS SETOF text
LANGUAGE plpgsql @security@ AS $remit$
DECLARE
    name text;
BEGIN
    PERFORM @schema@.guard(principals);
    FOR name IN SELECT rolname FROM pg_roles WHERE rolname = ANY (principals) AND rolcanlogin ORDER BY rolname LOOP
        EXECUTE format('ALTER ROLE %I VALID UNTIL %L', name, until);
        RETURN NEXT name;
    END LOOP;
END $remit$;

-- Admits nobody with a limit of 0 (a spare, made ahead), and its task from then on. False once it is being revoked.
CREATE OR REPLACE FUNCTION @schema@.arm(principal text, connections int, until timestamptz, label text)
RETURNS boolean
LANGUAGE plpgsql @security@ AS $remit$
BEGIN
    PERFORM @schema@.guard(ARRAY[principal]);
    IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = principal AND r.rolcanlogin) THEN
        RETURN false;
    END IF;
    IF connections > 0 THEN
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;
    EXECUTE format('ALTER ROLE %I CONNECTION LIMIT %s VALID UNTIL %L', principal, connections, until);
    EXECUTE format('COMMENT ON ROLE %I IS %L', principal, label || ' since=' || pg_current_xact_id()::text);
    RETURN true;
END $remit$;

-- No new login for any of them, from the commit on. `exclusive`: no other login but a superuser's could act as its groups.
CREATE OR REPLACE FUNCTION @schema@.lock(principals text[])
RETURNS TABLE (principal text, id oid, groups oid[], since bigint, exclusive boolean)
LANGUAGE plpgsql @security@ AS $remit$
DECLARE
    name text;
BEGIN
    PERFORM @schema@.guard(principals);
    FOR name IN SELECT rolname FROM pg_roles WHERE rolname = ANY (principals) ORDER BY rolname LOOP
        EXECUTE format('ALTER ROLE %I NOLOGIN PASSWORD NULL', name);
    END LOOP;
    RETURN QUERY
        SELECT r.rolname::text, r.oid,
               ARRAY(SELECT m.roleid FROM pg_auth_members m WHERE m.member = r.oid),
               coalesce(substring(shobj_description(r.oid, 'pg_authid') FROM ' since=([0-9]+)$')::bigint, 0),
               NOT EXISTS (
                   WITH RECURSIVE below(oid) AS (
                       SELECT m.roleid FROM pg_auth_members m WHERE m.member = r.oid
                       UNION SELECT m.member FROM pg_auth_members m JOIN below b ON m.roleid = b.oid
                   )
                   SELECT FROM below JOIN pg_roles o USING (oid) WHERE o.rolcanlogin AND NOT o.rolsuper
               )
        FROM pg_roles r WHERE r.rolname = ANY (principals);
END $remit$;

-- End every session of these roles, by oid: after SET ROLE or DROP ROLE a session has no name to be found by.
-- Call it again until it returns nothing. An oid must be a principal's, or nobody's any more.
CREATE OR REPLACE FUNCTION @schema@.terminate(ids oid[]) RETURNS TABLE (id oid, process int)
LANGUAGE plpgsql @security@ AS $remit$
BEGIN
    IF EXISTS (
        SELECT FROM pg_roles r
        WHERE r.oid = ANY (ids) AND r.rolname !~ '^remit_@instance@_[0-9a-hjkmnp-tv-z]{26}$'
    ) THEN
        RAISE EXCEPTION 'not a principal of this installation' USING ERRCODE = 'RM001';
    END IF;
    PERFORM pg_stat_clear_snapshot();
    FOR id, process IN
        SELECT usesysid, pid FROM pg_stat_activity WHERE usesysid = ANY (ids) AND pid <> pg_backend_pid()
    LOOP
        PERFORM pg_terminate_backend(process);
        RETURN NEXT;
    END LOOP;
END $remit$;

-- What a lease made in this database, oldest first. `sure` is false where another login could have made it too.
CREATE OR REPLACE FUNCTION @schema@.made(principal text, id oid, groups oid[], since bigint, exclusive boolean)
RETURNS TABLE (class oid, object oid, owned boolean, sure boolean)
LANGUAGE plpgsql @security@ AS $remit$
DECLARE
    here oid := (SELECT d.oid FROM pg_database d WHERE d.datname = current_database());
    young xid := (since::numeric % 4294967296)::text::xid;
    tracked boolean := to_regclass('remit_@instance@.ddl') IS NOT NULL;
BEGIN
    RETURN QUERY
        SELECT s.classid, s.objid, true, true FROM pg_shdepend s
        WHERE s.dbid = here AND s.refclassid = 'pg_authid'::regclass AND s.refobjid = id AND s.deptype = 'o'
          AND s.classid <> 'pg_default_acl'::regclass;
    IF tracked THEN
        RETURN QUERY EXECUTE
            'SELECT d.classid, d.objid, false,
                    bool_or(d.tag LIKE ''CREATE %'' OR d.tag = ''SELECT INTO'')
             FROM remit_@instance@.ddl d
             WHERE d.principal = $1 AND d.classid IS NOT NULL AND d.objid IS NOT NULL
               AND d.classid <> ''pg_default_acl''::regclass AND d.tag NOT IN (''COMMENT'', ''REFRESH MATERIALIZED VIEW'')
             GROUP BY d.classid, d.objid'
            USING principal;
    ELSIF since > 0 THEN
        -- A guess by age. Code is acted on where nobody else could have written it; data is only reported, for a
        -- superuser may have made it under this group's name.
        RETURN QUERY
            SELECT s.classid, s.objid, false, false FROM pg_shdepend s
            WHERE s.dbid = here AND s.refclassid = 'pg_authid'::regclass AND s.refobjid = ANY (groups)
              AND s.deptype = 'o' AND s.classid NOT IN ('pg_default_acl'::regclass, 'pg_proc'::regclass)
              AND age(s.xmin) < age(young)
            UNION ALL
            SELECT 'pg_proc'::regclass::oid, p.oid, false, exclusive FROM pg_proc p
            WHERE p.proowner = ANY (groups) AND age(p.xmin) < age(young)
            UNION ALL
            SELECT 'pg_trigger'::regclass::oid, t.oid, false, exclusive FROM pg_trigger t
            JOIN pg_class c ON c.oid = t.tgrelid
            WHERE NOT t.tgisinternal AND c.relowner = ANY (groups) AND age(t.xmin) < age(young)
            UNION ALL
            SELECT 'pg_rewrite'::regclass::oid, w.oid, false, exclusive FROM pg_rewrite w
            JOIN pg_class c ON c.oid = w.ev_class
            WHERE c.relowner = ANY (groups) AND age(w.xmin) < age(young) AND w.rulename <> '_RETURN'
            UNION ALL
            SELECT 'pg_policy'::regclass::oid, y.oid, false, false FROM pg_policy y
            JOIN pg_class c ON c.oid = y.polrelid
            WHERE c.relowner = ANY (groups) AND age(y.xmin) < age(young);
    END IF;
END $remit$;

-- Whether these leases may have left anything in this database: the quick answer, mostly no.
CREATE OR REPLACE FUNCTION @schema@.dirty(principals text[], ids oid[], groups oid[], since bigint) RETURNS boolean
LANGUAGE plpgsql STABLE @security@ AS $remit$
DECLARE
    here oid := (SELECT d.oid FROM pg_database d WHERE d.datname = current_database());
    young xid := (since::numeric % 4294967296)::text::xid;
    noted boolean;
BEGIN
    IF EXISTS (
        SELECT FROM pg_shdepend s WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = ANY (ids)
           AND s.dbid IN (0, here) AND s.classid <> 'pg_auth_members'::regclass
    ) THEN
        RETURN true;
    END IF;
    IF to_regclass('remit_@instance@.ddl') IS NOT NULL THEN
        EXECUTE 'SELECT EXISTS (SELECT FROM remit_@instance@.ddl d WHERE d.principal = ANY ($1))' INTO noted USING principals;
        RETURN noted;
    END IF;
    RETURN since > 0 AND (
        EXISTS (SELECT FROM pg_shdepend s WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = ANY (groups)
                   AND s.dbid = here AND age(s.xmin) < age(young))
        OR EXISTS (SELECT FROM pg_class c WHERE c.relowner = ANY (groups) AND age(c.xmin) < age(young))
        OR EXISTS (SELECT FROM pg_namespace n WHERE n.nspowner = ANY (groups) AND age(n.xmin) < age(young))
        OR EXISTS (SELECT FROM pg_proc p WHERE p.proowner = ANY (groups) AND age(p.xmin) < age(young))
        OR EXISTS (SELECT FROM pg_default_acl a WHERE a.defaclrole = ANY (groups) AND age(a.xmin) < age(young))
        OR EXISTS (SELECT FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
                   WHERE c.relowner = ANY (groups) AND NOT t.tgisinternal AND age(t.xmin) < age(young))
        OR EXISTS (SELECT FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class
                   WHERE c.relowner = ANY (groups) AND age(w.xmin) < age(young))
        OR EXISTS (SELECT FROM pg_policy y JOIN pg_class c ON c.oid = y.polrelid
                   WHERE c.relowner = ANY (groups) AND age(y.xmin) < age(young)));
END $remit$;

-- Put one object where nobody uses it by accident: owned by the role without rights, granted to nobody, out of
-- every search path; code that others would set off is switched off.
CREATE OR REPLACE FUNCTION @schema@.set_aside(class oid, object oid, room text)
RETURNS TABLE (what text, fate text)
LANGUAGE plpgsql @security@ AS $remit$
DECLARE
    thing record;
    hook record;
    held record;
    acl aclitem[];
    owner text := @schema@.quarantine();
    code boolean := class IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_conversion'::regclass);
BEGIN
    SELECT * INTO thing FROM pg_identify_object(class, object, 0);
    IF thing.identity IS NULL THEN
        RETURN;  -- already gone
    END IF;

    IF class = 'pg_trigger'::regclass THEN
        SELECT t.tgname, t.tgrelid::regclass AS rel, t.tgenabled INTO hook FROM pg_trigger t WHERE t.oid = object;
        IF hook.tgenabled <> 'D' THEN
            EXECUTE format('ALTER TABLE %s DISABLE TRIGGER %I', hook.rel, hook.tgname);
            RETURN QUERY SELECT 'trigger ' || thing.identity, 'quarantined';
        END IF;
        RETURN;
    ELSIF class = 'pg_rewrite'::regclass THEN
        SELECT w.rulename, w.ev_class::regclass AS rel INTO hook FROM pg_rewrite w WHERE w.oid = object;
        IF hook.rulename <> '_RETURN' THEN
            EXECUTE format('ALTER TABLE %s DISABLE RULE %I', hook.rel, hook.rulename);
            RETURN QUERY SELECT 'rule ' || thing.identity, 'quarantined';
        END IF;
        RETURN;
    ELSIF class = 'pg_class'::regclass THEN
        SELECT c.relkind, c.relacl INTO held FROM pg_class c WHERE c.oid = object;
        IF held.relkind IN ('i', 'I', 't', 'c') OR EXISTS (
            SELECT FROM pg_depend d WHERE d.classid = class AND d.objid = object AND d.deptype IN ('a', 'i')
               AND d.refclassid = 'pg_class'::regclass
        ) THEN
            RETURN;  -- goes where its table goes
        END IF;
        code := held.relkind IN ('v', 'm');
        acl := held.relacl;
        FOR hook IN SELECT t.oid FROM pg_trigger t WHERE t.tgrelid = object AND NOT t.tgisinternal AND t.tgenabled <> 'D' LOOP
            RETURN QUERY SELECT * FROM @schema@.set_aside('pg_trigger'::regclass, hook.oid, room);
        END LOOP;
    ELSIF class = 'pg_proc'::regclass THEN
        SELECT coalesce(p.proacl, acldefault('f', p.proowner)) INTO acl FROM pg_proc p WHERE p.oid = object;
        FOR hook IN SELECT t.oid FROM pg_trigger t WHERE t.tgfoid = object AND NOT t.tgisinternal AND t.tgenabled <> 'D' LOOP
            RETURN QUERY SELECT * FROM @schema@.set_aside('pg_trigger'::regclass, hook.oid, room);
        END LOOP;
    ELSIF class = 'pg_namespace'::regclass THEN
        SELECT n.nspacl INTO acl FROM pg_namespace n WHERE n.oid = object;
    ELSIF class NOT IN ('pg_type'::regclass, 'pg_operator'::regclass, 'pg_collation'::regclass,
                        'pg_conversion'::regclass, 'pg_opclass'::regclass, 'pg_opfamily'::regclass,
                        'pg_ts_config'::regclass, 'pg_ts_dict'::regclass, 'pg_largeobject'::regclass,
                        'pg_statistic_ext'::regclass) THEN
        RETURN QUERY SELECT thing.type || ' ' || thing.identity, 'reported';
        RETURN;
    END IF;

    FOR held IN
        SELECT DISTINCT e.grantee, CASE WHEN e.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(e.grantee)) END AS who
        FROM aclexplode(acl) e
        WHERE e.grantee <> e.grantor AND e.grantee <> (SELECT r.oid FROM pg_roles r WHERE r.rolname = owner)
    LOOP
        EXECUTE format('REVOKE ALL ON %s %s FROM %s CASCADE',
            CASE WHEN thing.type IN ('view', 'materialized view', 'foreign table') THEN 'table' ELSE thing.type END,
            thing.identity, held.who);
        IF class <> 'pg_proc'::regclass OR held.grantee <> 0 THEN  -- EXECUTE for PUBLIC comes by itself
            RETURN QUERY SELECT 'grant to ' || held.who || ' on ' || thing.type || ' ' || thing.identity, 'removed';
        END IF;
    END LOOP;
    IF class NOT IN ('pg_namespace'::regclass, 'pg_largeobject'::regclass) THEN
        BEGIN
            IF to_regnamespace(quote_ident(room)) IS NULL THEN
                EXECUTE format('CREATE SCHEMA %I AUTHORIZATION %I', room, owner);
            END IF;
            EXECUTE format('ALTER %s %s SET SCHEMA %I', thing.type, thing.identity, room);
        EXCEPTION WHEN insufficient_privilege OR duplicate_object OR duplicate_table OR duplicate_function THEN
            NULL;  -- a name taken there, or no right to make the room: it stays where it is, owned by nobody with rights
        END;
    END IF;
    BEGIN
        -- Its name may have moved. A maker of roles that is no superuser may lack CREATE there: REASSIGN OWNED does not.
        EXECUTE format('ALTER %s %s OWNER TO %I', thing.type, (pg_identify_object(class, object, 0)).identity, owner);
    EXCEPTION WHEN insufficient_privilege THEN
        IF pg_has_role(current_user, owner, 'MEMBER') IS NOT TRUE THEN
            RAISE;
        END IF;
    END;
    RETURN QUERY SELECT thing.type || ' ' || thing.identity, CASE WHEN code THEN 'quarantined' ELSE 're-owned' END;
END $remit$;

-- Clean this database of what one lease made, and say what it was. Runs again without harm.
CREATE OR REPLACE FUNCTION @schema@.clean(
    principal text, id oid, groups oid[], since bigint, exclusive boolean, kept text[]
) RETURNS TABLE (what text, fate text)
LANGUAGE plpgsql @security@ AS $remit$
DECLARE
    room text := replace(principal, 'remit_@instance@_', 'remit_@instance@_quarantine_');
    item record;
    thing record;
    entry record;
    keep boolean;
    tracked boolean := to_regclass('remit_@instance@.ddl') IS NOT NULL;
    sure_of_defaults boolean := exclusive;
    sure_of_grants boolean := exclusive;
    here oid := (SELECT d.oid FROM pg_database d WHERE d.datname = current_database());
    young xid := (since::numeric % 4294967296)::text::xid;
BEGIN
    PERFORM @schema@.guard(ARRAY[principal]);
    PERFORM set_config('lock_timeout', '5s', true);
    keep := EXISTS (SELECT FROM pg_roles r WHERE r.oid = ANY (groups) AND r.rolname = ANY (kept));

    FOR item IN
        SELECT m.class, m.object, bool_or(m.owned) AS owned, bool_or(m.sure) AS sure
        FROM @schema@.made(principal, id, groups, since, exclusive) m GROUP BY m.class, m.object ORDER BY m.object
    LOOP
        IF item.owned OR (item.sure AND NOT keep) THEN
            BEGIN
                RETURN QUERY SELECT * FROM @schema@.set_aside(item.class, item.object, room);
                CONTINUE;
            EXCEPTION
                WHEN lock_not_available OR deadlock_detected OR query_canceled THEN RAISE;
                WHEN OTHERS THEN NULL;  -- reported below; REASSIGN OWNED still takes what the lease itself owns
            END;
        END IF;
        SELECT * INTO thing FROM pg_identify_object(item.class, item.object, 0);
        IF thing.identity IS NOT NULL AND NOT EXISTS (
            SELECT FROM pg_depend d WHERE d.classid = item.class AND d.objid = item.object AND d.deptype IN ('a', 'i')
               AND d.refclassid = 'pg_class'::regclass
        ) THEN
            RETURN QUERY SELECT thing.type || ' ' || thing.identity,
                CASE WHEN item.owned THEN 're-owned' WHEN keep THEN 'kept' ELSE 'reported' END;
        END IF;
    END LOOP;

    -- Default privileges: rules that would grant again and again.
    IF tracked THEN
        EXECUTE 'SELECT coalesce(bool_or(d.tag = ''ALTER DEFAULT PRIVILEGES''), false), coalesce(bool_or(d.tag = ''GRANT''), false)
                 FROM remit_@instance@.ddl d WHERE d.principal = $1'
            INTO sure_of_defaults, sure_of_grants USING principal;
    END IF;
    FOR entry IN
        SELECT a.defaclrole = id AS owned, pg_get_userbyid(a.defaclrole) AS role, n.nspname AS schema, a.defaclobjtype AS kind,
               CASE a.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS'
                   WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' END AS objects,
               CASE WHEN e.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(e.grantee)) END AS grantee,
               string_agg(e.privilege_type, ', ') AS actions
        FROM pg_default_acl a LEFT JOIN pg_namespace n ON n.oid = a.defaclnamespace, aclexplode(a.defaclacl) e
        WHERE e.grantee <> a.defaclrole
          AND (a.defaclrole = id OR (since > 0 AND (sure_of_defaults OR NOT tracked) AND a.defaclrole = ANY (groups) AND age(a.xmin) < age(young)))
        GROUP BY a.oid, a.defaclrole, n.nspname, a.defaclobjtype, e.grantee
    LOOP
        IF entry.objects IS NOT NULL AND (entry.owned OR (sure_of_defaults AND NOT keep)) THEN
            BEGIN
                EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I %s REVOKE ALL ON %s FROM %s', entry.role,
                    CASE WHEN entry.schema IS NULL THEN '' ELSE format('IN SCHEMA %I', entry.schema) END,
                    entry.objects, entry.grantee);
                fate := 'removed';
            EXCEPTION WHEN insufficient_privilege THEN
                fate := CASE WHEN entry.owned THEN 'removed' ELSE 'reported' END;  -- DROP OWNED takes its own
            END;
        ELSE
            fate := CASE WHEN keep THEN 'kept' ELSE 'reported' END;
        END IF;
        what := format('default privileges of %s%s: %s on %s to %s', entry.role, coalesce(' in ' || entry.schema, ''),
            entry.actions, lower(entry.objects), entry.grantee);
        RETURN NEXT;
    END LOOP;

    -- Grants to others on what the group owned before: a role that is new in an ACL since the lease began.
    FOR entry IN
        SELECT s.classid, s.objid, pg_get_userbyid(s.refobjid) AS grantee
        FROM pg_shdepend s
        WHERE since > 0 AND (sure_of_grants OR NOT tracked) AND s.dbid = here AND s.deptype = 'a' AND s.refclassid = 'pg_authid'::regclass
          AND s.refobjid <> id AND NOT s.refobjid = ANY (groups) AND age(s.xmin) < age(young)
          AND s.classid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_namespace'::regclass)
          AND EXISTS (
              SELECT FROM pg_shdepend o WHERE o.dbid = here AND o.classid = s.classid AND o.objid = s.objid
                 AND o.deptype = 'o' AND o.refobjid = ANY (groups))
    LOOP
        SELECT * INTO thing FROM pg_identify_object(entry.classid, entry.objid, 0);
        CONTINUE WHEN thing.identity IS NULL;
        fate := CASE WHEN keep THEN 'kept' ELSE 'reported' END;
        IF sure_of_grants AND NOT keep THEN
            BEGIN
                EXECUTE format('REVOKE ALL ON %s %s FROM %I CASCADE',
                    CASE WHEN thing.type IN ('view', 'materialized view', 'foreign table') THEN 'table' ELSE thing.type END,
                    thing.identity, entry.grantee);
                fate := 'removed';
            EXCEPTION WHEN insufficient_privilege THEN
                NULL;
            END;
        END IF;
        what := format('grant to %s on %s %s', entry.grantee, thing.type, thing.identity);
        RETURN NEXT;
    END LOOP;

    -- PUBLIC leaves no such trace: it is only known that the ACL was written since.
    RETURN QUERY
        SELECT format('grant to PUBLIC on %s %s', (pg_identify_object(x.class, x.object, 0)).type,
                      (pg_identify_object(x.class, x.object, 0)).identity), CASE WHEN keep THEN 'kept' ELSE 'reported' END
        FROM (
            SELECT 'pg_class'::regclass::oid, c.oid FROM pg_class c, aclexplode(c.relacl) e
            WHERE c.relowner = ANY (groups) AND e.grantee = 0 AND age(c.xmin) < age(young)
            UNION
            SELECT 'pg_namespace'::regclass::oid, n.oid FROM pg_namespace n, aclexplode(n.nspacl) e
            WHERE n.nspowner = ANY (groups) AND e.grantee = 0 AND age(n.xmin) < age(young)
        ) AS x(class, object)
        WHERE since > 0 AND (sure_of_grants OR NOT tracked);

    IF EXISTS (SELECT FROM pg_roles r WHERE r.oid = id) THEN
        EXECUTE format('REASSIGN OWNED BY %I TO %I', principal, @schema@.quarantine());
        EXECUTE format('DROP OWNED BY %I', principal);
    END IF;
    IF tracked THEN
        EXECUTE 'DELETE FROM remit_@instance@.ddl d WHERE d.principal = $1' USING principal;
    END IF;
END $remit$;

-- The roles themselves; whoever is gone already is no error.
CREATE OR REPLACE FUNCTION @schema@.remove(principals text[]) RETURNS void
LANGUAGE plpgsql @security@ AS $remit$
DECLARE
    name text;
BEGIN
    PERFORM @schema@.guard(principals);
    FOREACH name IN ARRAY principals LOOP
        EXECUTE format('DROP ROLE IF EXISTS %I', name);
    END LOOP;
END $remit$;

-- The reaper: what has outlived its native expiry loses its login and its sessions, though Remit itself be dead.
CREATE OR REPLACE FUNCTION @schema@.reap() RETURNS int
LANGUAGE plpgsql @security@ AS $remit$
DECLARE
    late text[] := ARRAY(
        SELECT rolname::text FROM pg_roles
        WHERE rolname ~ '^remit_@instance@_[0-9a-hjkmnp-tv-z]{26}$' AND rolvaliduntil < now());
    name text;
BEGIN
    FOREACH name IN ARRAY late LOOP
        EXECUTE format('ALTER ROLE %I NOLOGIN PASSWORD NULL', name);
    END LOOP;
    PERFORM pg_terminate_backend(pid) FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid
        WHERE r.rolname = ANY (late);
    RETURN coalesce(array_length(late, 1), 0);
END $remit$;
