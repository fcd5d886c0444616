-- The identities of the current user, oldest first. Complete in the control database only.
CREATE OR REPLACE FUNCTION auth.viewer_identities()
RETURNS TABLE (id uuid, issuer text, subject text, email text, linked_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = auth, pg_temp AS $$
    SELECT encode(substring(auth.identity_digest(i.issuer, i.subject) FOR 16), 'hex')::uuid, i.issuer, i.subject, i.email, i.created_at
        FROM auth.identities i
        WHERE i.user_id = auth.current_user_id()
        ORDER BY i.created_at, i.issuer, i.subject
$$;
