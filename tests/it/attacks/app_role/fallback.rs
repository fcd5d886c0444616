//! Providers where the owner cannot be granted the parameter: what still holds, and what does not.

use pg::Client;

use super::{DENIED, GLOBEX};
use crate::support::cluster::Cluster;

/// Uses a separate cluster, because the grant applies to a whole cluster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_settings_are_used_reported_and_replaced() {
    let cluster = Cluster::start(&[]);
    let admin = cluster.admin();
    let body = "SELECT pg_get_function_sqlbody('app.current_organization()'::regprocedure)";
    assert!(cluster.value::<String>(body).await.contains("backtrace_functions"));

    // A login that may not grant the parameter, as at most providers.
    cluster
        .execute(&[
            "REVOKE SET ON PARAMETER backtrace_functions FROM tenantry_owner",
            "CREATE ROLE migrator LOGIN CREATEROLE",
            "GRANT tenantry_owner TO migrator",
            "ALTER DATABASE app OWNER TO migrator",
        ])
        .await;
    let migrator = admin.clone().with("user", "migrator");
    let report = migration::migrate(migrator, None).await.unwrap();
    assert_eq!(report.functions, ["session"]);
    assert!(cluster.value::<String>(body).await.contains("app.current_org_id"));

    // The self-check reports it, and the server still starts.
    let url = cluster.url();
    let doctor = tokio::task::spawn_blocking(move || {
        use crate::support::process;
        process::run(process::tenantry().arg("doctor").env("DATABASE_URL", url))
    });
    let doctor = doctor.await.unwrap();
    assert_eq!(doctor.code, Some(0), "{}{}", doctor.stdout, doctor.stderr);
    assert!(doctor.stdout.contains("reads a setting that SQL of the role can change"));

    // SQL can change the setting and is then in another tenant. It still cannot open a session as
    // another user, call functions of background work, or write entries of another time.
    let app = admin.clone().with("user", "tenantry_app");
    let mut connection = Client::connect(&app).await.unwrap();
    let transaction = connection.begin().await.unwrap();
    let seen = async |sql: &str| {
        transaction
            .query_one::<String>(sql, &[])
            .await
            .map_err(|error| error.code().unwrap().to_owned())
    };
    let set = format!("SELECT set_config('app.current_org_id', '{GLOBEX}', true)");
    seen(&set).await.unwrap();
    assert_ne!(seen("SELECT count(*)::text FROM projects").await.unwrap(), "0");
    // The same entry with the time of the session is accepted, so its time alone is refused.
    let entry = |column: &str, value: &str| {
        format!(
            "INSERT INTO audit_logs (organization_id, action, resource_type{column})
             VALUES ('{GLOBEX}', 'a.b', 'x'{value}) RETURNING ''"
        )
    };
    seen(&entry("", "")).await.unwrap();
    let open = "SELECT outcome FROM auth.open_request('', 'globex-owner', 'globex', NULL, NULL)";
    assert_eq!(seen(open).await.unwrap(), "UNPROVEN");
    seen(&set).await.unwrap();
    assert_eq!(seen(&entry(", created_at", ", now()")).await, Err(DENIED.to_owned()));
    transaction.roll_back().await.unwrap();

    // A superuser's next migration returns to the parameter.
    let report = migration::migrate(admin, None).await.unwrap();
    assert_eq!(report.functions, ["session"]);
    assert!(cluster.value::<String>(body).await.contains("backtrace_functions"));
}
