-- In the control database: records that dedicated databases have to copy a user.
CREATE OR REPLACE FUNCTION auth.record_user_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, app, pg_temp AS $$
BEGIN
    INSERT INTO auth.user_changes (user_id, database)
        SELECT DISTINCT NEW.id, substring(p.placement FROM 10)
        FROM auth.organization_members m JOIN app.placements p USING (organization_id)
        WHERE m.user_id = NEW.id AND p.placement ~ '^database:';
    RETURN NULL;
END
$$;
