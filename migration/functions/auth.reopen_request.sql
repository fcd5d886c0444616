-- Opens the session of a request again, for a query with the token with which auth.open_request has
-- opened one in the same organization. Returns false and applies nothing unless every row that
-- decided that result is still the same, as p_version says: the transactions that wrote the rows
-- of the identity, the membership and app.organization_lookup, and the start of PostgreSQL, because
-- a restored backup or a promoted standby may assign the same transaction ids again. (A crash of a
-- single process does so only with synchronous_commit = off, which this does not detect.) Triggers
-- write the row of the identity when its user is suspended (auth.copy_suspension), and that of the
-- organization when the organization, its billing or its placement changes (app.refresh_lookup), so
-- those tables are not read. Equal rows and an equal token have the same result. These checks of
-- auth.open_request are not repeated:
--
-- - The slug: the server calls this only for the organization's current slug, which no other
--   organization can have, and whose change writes that row.
-- - Placement and suspension: while app.organization_lookup has the slug, the organization is in
--   the shared tables, not suspended and not moving. The version alone does not say so: without a
--   slug, a change between the other states leaves that row as it is.
-- - The placement lock: only for a transaction that reads.
--
-- p_proof is a proof of the caller, the organization and the version: see auth.open_request.
CREATE OR REPLACE FUNCTION auth.reopen_request(
    p_issuer text, p_subject text, p_organization uuid, p_version text, p_proven_at bigint, p_proof bytea
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, app, pg_temp AS $$
DECLARE
    session text;
BEGIN
    -- As in auth.open_request.
    RESET ALL;
    -- One statement, because each one and each expression costs more than a look-up. So it has the
    -- conditions of auth.is_proven as well.
    SELECT app.set_session(p_organization, m.user_id, m.role::text) INTO session
        FROM auth.proof_keys k
            JOIN auth.identities i ON i.issuer = p_issuer AND i.subject = p_subject
            JOIN auth.organization_members m ON m.organization_id = p_organization AND m.user_id = i.user_id
            JOIN app.organization_lookup l ON l.organization_id = p_organization
        WHERE k.updated_at > now() - interval '30 days'
          AND to_timestamp(p_proven_at) BETWEEN now() - interval '5 minutes' AND now() + interval '5 minutes'
          AND current_setting('transaction_read_only') = 'on'
          AND sha256(p_proof) = sha256(sha256(k.outer_block || sha256(k.inner_block || convert_to(concat(
              p_proven_at, ' reopen ', octet_length(p_issuer), ':', p_issuer, ' ', octet_length(p_subject), ':', p_subject,
              ' 36:', p_organization, ' ', octet_length(p_version), ':', p_version), 'UTF8'))))
          AND l.slug IS NOT NULL
          AND concat(i.xmin, ' ', m.xmin, ' ', l.xmin, ' ', pg_postmaster_start_time()) = p_version;
    RETURN session IS NOT NULL;
END
$$;
