-- The two roles and their room. Runs as the connecting user, before any migration; repeats harmlessly.
-- thirdkey_owner owns the tables and migrates; thirdkey_app is what the service works as.

do $$
declare
    wanted text;
begin
    foreach wanted in array array['thirdkey_owner', 'thirdkey_app'] loop
        if not exists (select from pg_roles where rolname = wanted) then
            begin
                execute format('create role %I nologin', wanted);
            exception when duplicate_object or unique_violation then
                null; -- another database of this server was migrated at the same moment: roles are the server's
            end;
        end if;
        -- From Postgres 16 on the maker of a role may grant it but not use it until it has granted it to itself.
        if not pg_has_role(current_user, wanted, 'member')
            or (current_setting('server_version_num')::integer >= 160000 and not pg_has_role(current_user, wanted, 'usage')) then
            execute format('grant %I to current_user', wanted);
        end if;
    end loop;
    if not has_schema_privilege('thirdkey_owner', 'public', 'create') then
        grant usage, create on schema public to thirdkey_owner;
    end if;
    if not has_schema_privilege('thirdkey_app', 'public', 'usage') then
        grant usage on schema public to thirdkey_app;
    end if;
end
$$;
