//! PostgreSQL accepts no changes: it is read-only, a standby, or its disk is full. The server
//! rejects changes with the reason and continues to serve queries.

use std::{
    path::Path,
    process::Command,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    load::{Load, LoadOptions},
    verification::{say, verify},
};
use crate::support::{
    HANG, app,
    client::{Client, Reply},
    cluster::{self, Cluster},
    forwarder::Forwarder,
    server_process::ServerProcess,
};

const CREATE: &str =
    "mutation { createProject(input: { name: \"initech x\" }) { project { id } } }";
const READ: &str = "{ organization { slug projects(first: 1) { nodes { name } } } }";

fn owner(server: &ServerProcess, tenant: &str) -> Client {
    let url = format!("{}/org/{tenant}/graphql", server.base);
    Client::new(url, Some(app::token(&format!("{tenant}-owner"))))
}

/// Asserts that nothing was written and that the client may retry.
fn assert_no_changes(reply: &Reply) {
    reply.assert_refused(503, "UNAVAILABLE");
    assert!(reply.headers.contains_key("retry-after"), "{reply:?}");
    assert_eq!(reply.body["errors"][0]["extensions"].get("outcome"), None, "{reply:?}");
    let message = reply.body["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("Changes cannot be saved"), "{message}");
}

/// Waits until some reads are answered, and asserts that none fails meanwhile.
async fn assert_reading_goes_on(load: &Load) {
    let reads = |load: &Load| load.write_log.reads.load(Ordering::Relaxed);
    let failed = |load: &Load| load.write_log.failed_reads.load(Ordering::Relaxed);
    let (failed_before, reads_before, started) = (failed(load), reads(load), Instant::now());
    while reads(load) < reads_before + 20 {
        assert!(started.elapsed() < HANG, "no read is answered");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(failed(load), failed_before, "reads failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_postgresql_rejects_changes_and_serves_queries() {
    let cluster = Cluster::start(&[]);
    let mut server = ServerProcess::start(&cluster.url(), &[]);
    let load = Load::start(&[&server.base], LoadOptions::default());
    load.wait_until_served().await;
    cluster
        .execute(&[
            "ALTER SYSTEM SET default_transaction_read_only = on",
            "SELECT pg_reload_conf()",
        ])
        .await;
    // Transactions that began before the change have ended by then.
    load.wait_until_rejected(Instant::now()).await;
    let written = "SELECT count(*) FROM app.projects";
    let before: i64 = cluster.value(written).await;
    assert_reading_goes_on(&load).await;
    load.wait_until_rejected(Instant::now()).await;
    assert_no_changes(&owner(&server, "acme").query(CREATE).await);
    assert_eq!(cluster.value::<i64>(written).await, before, "PostgreSQL was read-only");
    // An organization without counted calls, for which no calls can be leased now.
    let mut fresh = ServerProcess::start(&cluster.url(), &[]);
    let data = owner(&fresh, "hooli").data(READ).await;
    assert_eq!(data["organization"]["slug"], json!("hooli"));
    assert_no_changes(&owner(&fresh, "hooli").query(CREATE).await);
    let end = "ALTER SYSTEM RESET default_transaction_read_only";
    cluster
        .execute(&["SET default_transaction_read_only = off", end, "SELECT pg_reload_conf()"])
        .await;
    let (first, all) = load.recovers_from(Instant::now()).await;
    let write_log = load.stop().await;
    let figures = verify(&cluster, &write_log).await;
    assert!(
        figures.refused() > 0 && figures.unknown() == 0,
        "no write was rejected, so the test shows nothing"
    );
    for server in [&mut server, &mut fresh] {
        server.terminate();
        assert_eq!(server.wait_for_exit().await, 0, "{}", server.log());
    }
    // Calls that could not be written in the meantime were counted.
    let used: i64 = cluster.value("SELECT sum(used)::bigint FROM billing.usage").await;
    assert_eq!(used, i64::from(write_log.responses.load(Ordering::Relaxed)) + 3);
    figures.print(
        "PostgreSQL read-only",
        format_args!("first served after {first:.2} s, all after {all:.2} s"),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_a_standby_are_replaced() {
    let primary = Cluster::start(&[]);
    let standby = primary.standby("second");
    let forwarder = Forwarder::start(&primary.socket_file()).await;
    let server = ServerProcess::start(&forwarder.url(), &[]);
    let load = Load::start(&[&server.base], LoadOptions::default());
    load.wait_until_served().await;
    forwarder.lead_to(&standby.socket_file());
    primary
        .execute(&[
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'tenantry_app'",
        ])
        .await;
    // The first rejection may be that of a terminated connection.
    for _ in 0..2 {
        load.wait_until_rejected(Instant::now()).await;
    }
    assert_no_changes(&owner(&server, "acme").query(CREATE).await);
    assert_reading_goes_on(&load).await;
    // Existing connections to the standby stay open. Only new ones lead to the primary.
    forwarder.lead_to(&primary.socket_file());
    let (first, all) = load.recovers_from(Instant::now()).await;
    let figures = verify(&primary, &load.stop().await).await;
    figures.print(
        "connections lead to a standby",
        format_args!("first served after {first:.2} s, all after {all:.2} s"),
    );
}

/// A file system of this many megabytes, unmounted when dropped. `None` where the user may not
/// mount.
struct SmallDisk<'folder>(&'folder Path);

impl<'folder> SmallDisk<'folder> {
    fn mount(folder: &'folder Path, megabytes: u32) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let size = format!("size={megabytes}m");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder);
        command.stderr(std::process::Stdio::null());
        command.status().is_ok_and(|status| status.success()).then(|| {
            cluster::make_folder(folder);
            Self(folder)
        })
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // The server may still have files open there, so the unmount is lazy.
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_no_acknowledged_write() {
    let folder = cluster::new_folder();
    let disk = folder.join("disk");
    let Some(_disk) = SmallDisk::mount(&disk, 160) else {
        say(format_args!("SKIPPED: disk full: mounting a file system is not allowed here"));
        return;
    };
    // The server's log is on another disk.
    let mut cluster = Cluster::start_in(folder.clone(), disk.join("data"), &[]);
    let server = ServerProcess::start(&cluster.url(), &[]);
    let load = Load::start(&[&server.base], LoadOptions::default());
    load.wait_until_served().await;
    let ballast = disk.join("ballast");
    fill(&ballast);
    load.wait_until_rejected(Instant::now()).await;
    let crashed = !cluster.is_running();
    std::fs::remove_file(&ballast).unwrap();
    if !cluster.is_running() {
        cluster.stop();
        cluster.resume();
    }
    let (first, all) = load.recovers_from(Instant::now()).await;
    let figures = verify(&cluster, &load.stop().await).await;
    figures.print(
        "disk full",
        format_args!(
            "PostgreSQL {}, first served after {first:.2} s, all after {all:.2} s",
            if crashed { "ended" } else { "kept running" }
        ),
    );
}

/// Fills the disk.
fn fill(file: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(file).unwrap();
    for size in [1024 * 1024, 4 * 1024] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}
