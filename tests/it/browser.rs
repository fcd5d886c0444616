//! The pages, in a real browser that reaches nothing but this machine. `TENANTRY_SCREENSHOTS=FOLDER` keeps pictures of them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    command_line::free_port,
    dev::{LAST_LINE, dev, folder},
    support::{node, process::Running},
};

/// The folder with the scripts, where npm and Chromium are.
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
async fn graphiql_needs_nothing_from_elsewhere_and_shows_what_a_person_may() {
    let Some(scripts) = scripts().await else {
        eprintln!("SKIPPED: npm or /usr/bin/chromium is missing");
        return;
    };
    assert_eq!(tenantry::http::missing_page(), None, "the page is built in where npm is");
    tokio::task::spawn_blocking(move || {
        let folder = folder();
        let port = free_port();
        let _server = Running::start(&mut dev(folder.path(), port), LAST_LINE);
        let output = Command::new("node")
            .arg("graphiql.mjs")
            .arg(format!("http://127.0.0.1:{port}"))
            .arg(screenshot("graphiql.png"))
            .current_dir(scripts)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    })
    .await
    .unwrap();
}
