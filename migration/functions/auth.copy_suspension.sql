-- Copies the suspension of users to their identities, where an opening reads it without the user.
-- On auth.users it follows a change; on auth.identities it runs before an insert or a change
-- of the user.
CREATE OR REPLACE FUNCTION auth.copy_suspension() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, pg_temp AS $$
DECLARE
    before text := coalesce(current_setting('app.replicating', true), '');
BEGIN
    IF TG_TABLE_NAME = 'identities' THEN
        -- The lock makes a suspension that is under way wait, and then find this identity.
        SELECT u.suspended_at INTO NEW.suspended_at FROM auth.users u WHERE u.id = NEW.user_id FOR SHARE;
        RETURN NEW;
    END IF;
    -- The identity's time is that of its newest token.
    PERFORM set_config('app.replicating', 'on', true);
    UPDATE auth.identities SET suspended_at = NEW.suspended_at WHERE user_id = NEW.id;
    PERFORM set_config('app.replicating', before, true);
    RETURN NULL;
END
$$;
