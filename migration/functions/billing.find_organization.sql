-- The organization of a Stripe customer; otherwise p_organization, which the server named when the
-- subscription began, if it has no customer yet.
CREATE OR REPLACE FUNCTION billing.find_organization(p_customer text, p_organization uuid) RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = billing, pg_temp AS $$
    SELECT b.organization_id FROM billing.organization_billing b
        WHERE b.stripe_customer_id = p_customer
           OR (b.organization_id = p_organization AND b.stripe_customer_id IS NULL)
        ORDER BY b.stripe_customer_id NULLS LAST LIMIT 1
$$;
