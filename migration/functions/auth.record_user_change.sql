-- Records that a user was suspended, resumed or renamed, and, in the control database, that
-- dedicated databases have to copy the user. Each of them records the same change when it stores
-- the copy.
--
-- auth.record_user_event takes placement locks. A change of a user in the control database takes
-- those of the user's organizations before the user's row, because a move locks the row while it
-- holds the placement lock.
CREATE OR REPLACE FUNCTION auth.record_user_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, app, pg_temp AS $$
DECLARE
    is_suspended boolean := NEW.suspended_at IS NOT NULL;
BEGIN
    IF is_suspended <> (OLD.suspended_at IS NOT NULL) THEN
        PERFORM auth.record_user_event(
            NEW.id, NULL, 'tenantry user ' || CASE WHEN is_suspended THEN 'suspend' ELSE 'resume' END,
            CASE WHEN is_suspended THEN 'user.suspended' ELSE 'user.resumed' END,
            jsonb_build_object('user_id', NEW.id, 'name', coalesce(NEW.name, NEW.email)));
    END IF;
    -- The user has chosen a name, or the name follows the tokens again.
    IF NEW.named_at IS DISTINCT FROM OLD.named_at OR NEW.named_at IS NOT NULL AND NEW.name IS DISTINCT FROM OLD.name THEN
        PERFORM auth.record_user_event(NEW.id, NEW.id, coalesce(OLD.name, OLD.email), 'user.renamed',
                                       jsonb_build_object('user_id', NEW.id, 'name', NEW.name));
    END IF;
    INSERT INTO auth.user_changes (user_id, database)
        SELECT DISTINCT NEW.id, substring(p.placement FROM 10)
        FROM auth.organization_members m JOIN app.placements p USING (organization_id)
        WHERE m.user_id = NEW.id AND p.placement ~ '^database:';
    RETURN NULL;
END
$$;
