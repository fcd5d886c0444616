//! Measures the parts of a request separately: token, document, execution, response and the opening
//! of a session. Only the last two wait for PostgreSQL.
//!
//! `cargo bench --bench cpu`

#[path = "load/requests.rs"]
#[expect(dead_code, reason = "one workload is enough here")]
mod requests;
#[path = "load/seed.rs"]
#[expect(dead_code, reason = "the load benchmark uses the rest")]
mod seed;

use std::{hint::black_box, num::NonZeroU32, sync::Arc, time::Duration};

use criterion::Criterion;
use serde_json::json;
use tenantry::{
    admission::{AdmissionLimits, AttemptLimiter, ConcurrencyLimiter, RateLimiter, Source},
    auth::{Caller, Claims, TrustedIssuer, Verifier},
    billing,
    clock::Clock,
    config::{AllSettings, parse_database_url},
    graphql::{Limits, document::GraphqlRequest},
    invitation,
    metrics::Metrics,
    organization, plan,
    rate_limit::Throttle,
    request::{GraphqlService, RequestContext},
    schema::Api,
    seats,
    tenancy::{
        AccountLinking, Budget, Cost, DatabaseOptions, Databases, Destination, OpenFor, SecretKeys,
        Settings, open,
    },
    usage::Meter,
};
use tokio::runtime::Runtime;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use requests::DASHBOARD;
use seed::{SECRET, Seeded};

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    // PostgreSQL ends with the thread that started it, so the main thread starts it.
    let seeded = Seeded::create(100)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let service = Arc::new(runtime.block_on(async { service(&seeded) })?);
    let mut criterion = Criterion::default().configure_from_args();
    token(&mut criterion, &runtime, &seeded);
    document(&mut criterion, &runtime, &service)?;
    session(&mut criterion, &runtime, &service)?;
    criterion.final_summary();
    Ok(())
}

fn service(seeded: &Seeded) -> Result<GraphqlService, Failure> {
    let options = DatabaseOptions {
        connect: parse_database_url("DATABASE_URL", &seeded.url())?,
        system: None,
        listen: None,
        replica: None,
        dedicated: Vec::new(),
        max_connections: 1,
        acquire_timeout: Duration::from_secs(5),
        statement_cache: 100,
    };
    let databases = Databases::shared(&options)?;
    let areas = AllSettings {
        billing: billing::Settings {
            trial_plan: None,
            trial_term: chrono::Duration::days(14),
            public_url: "https://app.example".to_owned(),
            stripe: None,
        },
        invitation: invitation::Settings {
            term: chrono::Duration::days(7),
            public_url: "https://app.example".to_owned(),
            sends_mail: false,
            max_mails: NonZeroU32::MAX,
        },
        organization: organization::Settings { max_owned: 3 },
        plan: plan::Settings { grace: chrono::Duration::days(7) },
        seats: seats::Settings { mode: None, proration: seats::Proration::CreateProrations },
    };
    let settings = Settings {
        clock: Clock::system(),
        secret_keys: Arc::new(SecretKeys::new(vec![SECRET.into()])),
        account_linking: AccountLinking::Never,
        areas: areas.assemble(),
    };
    let metrics = Metrics::new();
    Ok(GraphqlService {
        api: api()?,
        meter: Meter::new(databases.clone(), settings.clone(), metrics.clone()),
        concurrency: ConcurrencyLimiter::new(AdmissionLimits {
            running: 1,
            outside: 1,
            reading: 1,
            waiting: 1,
            wait: Duration::from_secs(5),
        }),
        attempts: AttemptLimiter::new(NonZeroU32::MAX, NonZeroU32::MAX),
        operations: RateLimiter::new(Throttle::Rate, NonZeroU32::MAX, NonZeroU32::MAX),
        metrics,
        mutations: TaskTracker::new(),
        databases,
        settings,
        timeout: Duration::from_secs(10),
        budget: Budget::new(Cost { statements: 300, bytes: 4 * 1024 * 1024 }),
        introspection: true,
    })
}

fn api() -> Result<Api, Failure> {
    let limits = Limits {
        suggestions: true,
        tokens: 5_000,
        depth: 12,
        introspection_depth: 20,
        complexity: 10_000,
        aliases: 30,
        root_mutations: 10,
    };
    Ok(Api::new(limits, false)?)
}

fn token(criterion: &mut Criterion, runtime: &Runtime, seeded: &Seeded) {
    let verifier = || {
        let issuer = TrustedIssuer::with_secrets(&[SECRET], Claims::default());
        Verifier::new(vec![issuer], Clock::system())
    };
    let token = seeded.token(1, 1);
    criterion.bench_function("token, first verification", |bench| {
        bench.iter_batched(
            verifier,
            |verifier| black_box(runtime.block_on(verifier.verify(token)).is_ok()),
            criterion::BatchSize::SmallInput,
        );
    });
    let known = verifier();
    criterion.bench_function("token, cached", |bench| {
        bench.iter(|| black_box(runtime.block_on(known.verify(token)).is_ok()));
    });
}

fn asked(query: String) -> GraphqlRequest {
    GraphqlRequest { query, operation_name: None, variables: serde_json::Map::new() }
}

fn document(
    criterion: &mut Criterion,
    runtime: &Runtime,
    service: &GraphqlService,
) -> Result<(), Failure> {
    let api = api()?;
    let mut n = 0;
    criterion.bench_function("document, first parse", |bench| {
        bench.iter(|| {
            n += 1;
            runtime
                .block_on(api.read(asked(format!("{DASHBOARD} # {n}")), async { Ok(()) }))
                .is_ok()
        });
    });
    criterion.bench_function("document, cached", |bench| {
        bench.iter(|| {
            runtime.block_on(api.read(asked(DASHBOARD.to_owned()), async { Ok(()) })).is_ok()
        });
    });
    let introspection = "{ __type(name: \"Project\") { name fields { name type { name kind } } } }";
    let answer = |runtime: &Runtime| {
        runtime.block_on(async {
            let prepared =
                service.prepare(asked(introspection.to_owned()), Source::default()).await.ok()?;
            Some(service.introspect(prepared, Source::default()).await)
        })
    };
    criterion.bench_function("execution without the database", |bench| {
        bench.iter(|| answer(runtime).is_some());
    });
    Ok(())
}

fn session(
    criterion: &mut Criterion,
    runtime: &Runtime,
    service: &Arc<GraphqlService>,
) -> Result<(), Failure> {
    let caller = Arc::new(Caller {
        expires_at: chrono::DateTime::<chrono::Utc>::MAX_UTC,
        subject: "user-7-1".to_owned(),
        ..Caller::default()
    });
    let destination = Destination { slug: Some("org-7".to_owned()), client_ip: None };
    let call = RequestContext {
        caller,
        destination,
        request_id: Uuid::nil(),
        idempotency_key: None,
        freshness: None,
        budget: service.budget,
    };
    let dashboard = || {
        runtime.block_on(async {
            let prepared = service
                .prepare(asked(DASHBOARD.to_owned()), Source::default())
                .await
                .map_err(|_| "refused")?;
            Ok::<_, Failure>(Arc::clone(service).execute(prepared, call.clone()).await)
        })
    };
    let answer = dashboard()?.response;
    if !answer.errors.is_empty() {
        return Err(json!(answer.errors).to_string().into());
    }
    criterion.bench_function("serialization of a dashboard response", |bench| {
        bench.iter(|| serde_json::to_string(&answer).map(|text| text.len()));
    });
    criterion.bench_function("session, opened and released", |bench| {
        bench.iter(|| {
            runtime.block_on(async {
                let (databases, settings) = (&service.databases, &service.settings);
                let RequestContext { caller, destination, .. } = &call;
                let opened = open(databases, settings, caller, destination, &OpenFor::Query).await;
                opened.is_ok_and(|opened| {
                    opened.session.transaction().release();
                    true
                })
            })
        });
    });
    criterion.bench_function("dashboard, from document to response", |bench| {
        bench.iter(|| dashboard().is_ok());
    });
    Ok(())
}
