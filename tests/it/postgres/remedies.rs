//! The remedies of `doctor` restore tenantry's own policies and remove others.

use super::server::Server;

/// Runs the remedies of all findings, and returns them.
async fn remedied(server: &Server) -> Vec<String> {
    let doctor = server.doctor("app");
    let remedies: Vec<String> = doctor
        .stdout
        .lines()
        .filter_map(|line| Some(line.split_once("; remedy: ")?.1.to_owned()))
        .collect();
    for remedy in &remedies {
        server.execute("app", &[remedy]).await;
    }
    let doctor = server.doctor("app");
    assert_eq!(doctor.stdout.trim(), "All is well.", "{remedies:#?}{}", doctor.stderr);
    remedies
}

const POLICIES: &str = "SELECT array_agg(concat_ws(' ', schemaname, tablename, policyname, permissive, roles, cmd, qual, with_check)
        ORDER BY schemaname, tablename, policyname) FROM pg_policies";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn remedies_restore_the_policies_of_tenantry() {
    let server = Server::start();
    server.execute("postgres", &["CREATE DATABASE app"]).await;
    server.migrate("postgres", "app", None).await.unwrap();
    let expected: Vec<String> = server.value("app", POLICIES).await;
    for (planted, count) in [
        (&["ALTER POLICY tenantry_app_select ON app.projects USING (true)"][..], 1),
        (&["ALTER POLICY tenantry_app_update ON app.projects WITH CHECK (true)"], 1),
        (&["ALTER POLICY tenantry_app_insert ON audit.audit_logs WITH CHECK (true)"], 1),
        (&["ALTER POLICY tenantry_system_select ON auth.organization_members USING (true)"], 1),
        (
            &["ALTER POLICY tenantry_app_select ON auth.users USING (id = auth.current_user_id())"],
            1,
        ),
        (&["ALTER POLICY tenantry_app_select ON app.organizations TO PUBLIC USING (true)"], 1),
        (&["DROP POLICY tenantry_app_delete ON app.projects"], 1),
        (&["DROP POLICY tenantry_system_update ON app.outbox"], 1),
        (&["DROP POLICY tenantry_owner_select ON app.projects"], 1),
        (
            &[
                "DROP POLICY tenantry_app_select ON app.projects",
                "CREATE POLICY tenantry_app_select ON app.projects TO tenantry_app USING (true)",
            ],
            1,
        ),
        (&["CREATE POLICY leaky ON app.projects FOR SELECT TO tenantry_app USING (true)"], 1),
    ] {
        server.execute("app", planted).await;
        let remedies = remedied(&server).await;
        assert_eq!(remedies.len(), count, "{planted:?}: {remedies:#?}");
        assert_eq!(server.value::<Vec<String>>("app", POLICIES).await, expected, "{remedies:#?}");
        let drops = remedies[0].starts_with("DROP POLICY");
        assert_eq!(drops, planted[0].contains("leaky"), "{remedies:#?}");
    }
    // All of them.
    let drop = "DO $$ DECLARE p record; BEGIN
        FOR p IN SELECT * FROM pg_policies WHERE roles && '{tenantry_app,tenantry_system}' LOOP
            EXECUTE format('DROP POLICY %I ON %I.%I', p.policyname, p.schemaname, p.tablename);
        END LOOP; END $$";
    server.execute("app", &[drop]).await;
    assert!(remedied(&server).await.len() > 40);
    assert_eq!(server.value::<Vec<String>>("app", POLICIES).await, expected);
}
