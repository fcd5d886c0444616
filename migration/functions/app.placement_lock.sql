-- The key of an organization's placement lock. A transaction that writes in the organization holds
-- it in shared mode until it ends; the command that moves the organization takes it exclusively.
-- Without a SET clause, PostgreSQL inlines it instead of planning it at each call.
CREATE OR REPLACE FUNCTION app.placement_lock(p_organization uuid) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN hashtextextended('placement ' || p_organization::text, 0);
