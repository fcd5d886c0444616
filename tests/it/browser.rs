//! The pages in a real browser that can reach this machine only. `TENANTRY_SCREENSHOTS=FOLDER`
//! stores screenshots.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::{
    command_line::free_port,
    dev::{LAST_LINE, dev, folder},
    support::{node, process::Running},
};

/// Returns the directory of the scripts if npm and Chromium are installed.
async fn scripts() -> Option<&'static Path> {
    let folder = node::packages().await?;
    Path::new("/usr/bin/chromium").exists().then_some(folder)
}

fn screenshot(name: &str) -> PathBuf {
    let folder = std::env::var_os("TENANTRY_SCREENSHOTS")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    std::path::absolute(folder).unwrap().join(name)
}

#[tokio::test]
async fn graphiql_loads_nothing_from_other_hosts_and_respects_roles() {
    let Some(scripts) = scripts().await else {
        eprintln!("SKIPPED: npm or /usr/bin/chromium is missing");
        return;
    };
    assert_eq!(tenantry::http::missing_page(), None, "the page is built in where npm is");
    tokio::task::spawn_blocking(move || {
        let folder = folder();
        let port = free_port();
        let _server = Running::start(&mut dev(folder.path(), port), LAST_LINE);
        let base = format!("http://127.0.0.1:{port}");
        done(
            Command::new("node")
                .arg("graphiql.mjs")
                .arg(base)
                .arg(screenshot("graphiql.png"))
                .current_dir(scripts),
        );
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn the_single_page_app_completes_its_main_flow() {
    let Some(scripts) = scripts().await else {
        eprintln!("SKIPPED: npm or /usr/bin/chromium is missing");
        return;
    };
    tokio::task::spawn_blocking(move || {
        let app = installed_app();
        let folder = folder();
        let (port, app_port) = (free_port(), free_port());
        let _server = Running::start(&mut dev(folder.path(), port), LAST_LINE);
        let _app = Running::start(&mut vite(app, app_port, port), "Local:");
        let base = format!("http://127.0.0.1:{app_port}");
        done(
            Command::new("node")
                .arg("spa.mjs")
                .arg(base)
                .arg(screenshot("spa.png"))
                .current_dir(scripts),
        );
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn users_sign_up_at_an_identity_provider_and_follow_an_invitation() {
    let Some(scripts) = scripts().await else {
        eprintln!("SKIPPED: npm or /usr/bin/chromium is missing");
        return;
    };
    tokio::task::spawn_blocking(move || {
        let app = installed_app();
        let folder = folder();
        let (port, app_port, provider_port) = (free_port(), free_port(), free_port());
        let base = format!("http://127.0.0.1:{app_port}");
        let issuer = format!("http://127.0.0.1:{provider_port}");
        let audience = "http://127.0.0.1:4000";
        let _provider = Running::start(
            Command::new("node")
                .arg("provider.mjs")
                .env("PORT", provider_port.to_string())
                .env("APP_URL", &base)
                .current_dir(app),
            "npm run start:login",
        );
        let server = Running::start(
            dev(folder.path(), port)
                .env("JWT_JWKS_URL", format!("{issuer}/jwks"))
                .env("JWT_ISSUER", &issuer)
                .env("JWT_AUDIENCE", audience),
            "/graphiql",
        );
        let screen = &server.stdout;
        assert!(screen.contains(&format!("from {issuer}")), "{screen}");
        assert!(!screen.contains("/org/acme"), "its users are no members there: {screen}");
        let _app = Running::start(
            vite(app, app_port, port)
                .env("VITE_OIDC_AUTHORITY", &issuer)
                .env("VITE_OIDC_CLIENT_ID", "spa")
                .env("VITE_OIDC_AUDIENCE", audience),
            "Local:",
        );
        done(Command::new("node").args(["login.mjs", &base, &issuer]).current_dir(scripts));
    })
    .await
    .unwrap();
}

/// Returns the app's development server.
fn vite(app: &Path, port: u16, server_port: u16) -> Command {
    let mut command = Command::new("node");
    command
        .args(["node_modules/vite/bin/vite.js", "--port", &port.to_string()])
        .env("TENANTRY_URL", format!("http://127.0.0.1:{server_port}"))
        .env("NO_COLOR", "1")
        .current_dir(app);
    command
}

/// Returns the folder of the app, installed and checked once.
fn installed_app() -> &'static Path {
    static APP: OnceLock<PathBuf> = OnceLock::new();
    APP.get_or_init(|| {
        let app = copy_of_app();
        // The types are generated from the schema and checked strictly.
        done(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&app));
        done(Command::new("npm").args(["run", "check"]).current_dir(&app));
        app
    })
}

/// Copies the app beside the build, next to the committed schema, so that the checkout stays
/// unchanged.
fn copy_of_app() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tree = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tree");
    let app = tree.join("examples/spa");
    let _ = std::fs::remove_dir_all(app.join("src"));
    std::fs::create_dir_all(&app).unwrap();
    std::fs::copy(root.join("schema.graphql"), tree.join("schema.graphql")).unwrap();
    copy(&root.join("examples/spa"), &app);
    app
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (name, target) = (entry.file_name(), to.join(entry.file_name()));
        if name == "node_modules" || name == "dist" || name == "gql" {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[track_caller]
fn done(command: &mut Command) {
    let output = command.output().unwrap();
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{command:?}: {}", said.concat());
}
