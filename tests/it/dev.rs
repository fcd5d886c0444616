//! `cargo run`: the first minutes of a new user.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    command_line::free_port,
    support::process::{self, Running, eventually, tenantry},
};

/// Creates a directory that PostgreSQL's user can enter.
pub fn folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("tenantry-dev-").tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

pub fn dev(folder: &Path, port: u16) -> Command {
    let mut command = tenantry();
    command
        .arg("dev")
        .arg("--data-dir")
        .arg(folder.join("data"))
        .arg("--port")
        .arg(port.to_string());
    command
}

/// The end of the first screen is what a new user needs first.
pub const LAST_LINE: &str = "/org/acme/graphiql";

/// Returns the payload of a token.
fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// Runs the command from the first screen as a user would, by pasting it.
fn run_pasted_command(screen: &str, change: impl Fn(&str) -> String) -> Value {
    let start = screen.find("  curl").unwrap();
    let command = &screen[start..start + screen[start..].find("\n\n").unwrap()];
    let output = Command::new("sh").arg("-c").arg(change(command)).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

fn create(command: &str) -> String {
    let start = command.find("-d '").unwrap();
    format!(
        "{}-d '{{\"query\":\"mutation {{ createProject(input: {{ name: \\\"kept\\\" }}) {{ project {{ name }} }} }}\"}}'",
        &command[..start]
    )
}

#[track_caller]
fn every_user_has_a_token_and_no_organization_is_over_its_limits(port: u16, data: &str) {
    for organization in ["acme", "globex"] {
        for role in ["owner", "admin", "member", "viewer"] {
            let user = format!("{organization}-{role}");
            let arguments = ["token", "--as", &user, "--org", organization, "--data-dir", data];
            let output = process::run(tenantry().args(arguments));
            let token = process::succeeded(&output).trim();
            let claims = claims(token);
            assert_eq!(claims["org"], organization);
            assert_eq!(claims["iss"], "https://login.demo.example");
            assert_eq!(claims["email"], format!("{user}@example.com"));
            assert!(claims["name"].is_string() && claims["iat"].is_i64(), "{claims}");
            let url = format!("http://127.0.0.1:{port}/org/{organization}/graphql");
            let query =
                "{\"query\":\"{ organization { viewerRole slug entitlements { overLimit } } }\"}";
            let output = Command::new("curl")
                .args(["-s", &url, "-H", "Content-Type: application/json", "-d", query, "-H"])
                .arg(format!("Authorization: Bearer {token}"))
                .output()
                .unwrap();
            let body: Value = serde_json::from_slice(&output.stdout).unwrap();
            let answered = &body["data"]["organization"];
            assert_eq!(answered["viewerRole"], role.to_uppercase(), "{body}");
            assert_eq!(answered["slug"], organization);
            let entitlements = answered["entitlements"].as_array().unwrap();
            assert!(entitlements.iter().all(|one| one["overLimit"] == false), "{body}");
        }
    }
}

#[test]
fn the_first_screen_is_correct_and_a_second_start_keeps_the_data() {
    let folder = folder();
    let port = free_port();
    let mut running = Running::start(&mut dev(folder.path(), port), LAST_LINE);
    let screen = running.stdout.clone();
    let data = folder.path().join("data").display().to_string();
    for expected in [
        format!("http://127.0.0.1:{port}/org/acme/graphql"),
        format!("dev --reset --data-dir {data}"),
        "psql -U tenantry_app tenantry -h".to_owned(),
    ] {
        assert!(screen.contains(&expected), "{expected} is not in {screen}");
    }
    // With the paths of a new user it fits into a terminal of 80 by 24, and the link is last.
    let usual = screen
        .replace(env!("CARGO_BIN_EXE_tenantry"), "target/debug/tenantry")
        .replace(&format!(" --data-dir {data}"), "")
        .replace(&data, "/home/mia/.local/share/tenantry");
    assert!(usual.lines().count() < 24, "{usual}");
    assert!(usual.lines().all(|line| line.chars().count() <= 80), "{usual}");
    assert_eq!(
        screen.lines().last().unwrap().trim(),
        format!("http://127.0.0.1:{port}/org/acme/graphiql")
    );
    every_user_has_a_token_and_no_organization_is_over_its_limits(port, &data);
    let body = run_pasted_command(&screen, str::to_owned);
    assert_eq!(body["data"]["organization"]["name"], "Acme");
    assert_eq!(body["data"]["organization"]["projects"]["nodes"][0]["name"], "Instant tunnel");
    assert_eq!(
        run_pasted_command(&screen, create)["data"]["createProject"]["project"]["name"],
        "kept"
    );

    let get = |path: &str| {
        let output =
            Command::new("curl").args(["-si", &format!("http://127.0.0.1:{port}{path}")]).output();
        String::from_utf8_lossy(&output.unwrap().stdout).into_owned()
    };
    assert!(get("/").contains("location: /org/acme/graphiql"));
    assert!(get("/org/globex").contains("location: /org/globex/graphiql"));
    let page = get("/org/acme/graphiql");
    assert!(page.contains("content-security-policy: default-src 'none'"), "{page}");
    assert!(
        page.contains("/graphiql/assets/") || tenantry::http::missing_page().is_some(),
        "{page}"
    );
    let open = |path: &str| {
        let url = format!("http://127.0.0.1:{port}{path}");
        let accept = "Accept: text/html,application/xhtml+xml,*/*;q=0.8";
        let output = Command::new("curl").args(["-si", &url, "-H", accept]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let opened = open("/org/acme/graphql");
    assert!(opened.contains("location: /org/acme/graphiql"), "{opened}");
    assert!(open("/org/acme/graphql?query=%7B__typename%7D").contains("401"));
    let users = get("/graphiql/users.json");
    assert_eq!(users.matches("\"token\":\"eyJ").count(), 8, "{users}");
    assert!(get("/org/acme/graphql?query=%7B__typename%7D").contains("401"));
    let timed = Command::new("sh")
        .arg("-c")
        .arg(
            screen[screen.find("  curl").unwrap()..]
                .split("\n\n")
                .next()
                .unwrap()
                .replace("curl -s", "curl -si"),
        )
        .output()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&timed.stdout).contains("server-timing: total;dur="),
        "{timed:?}"
    );
    let rebound = Command::new("curl")
        .args([
            "-s",
            "-H",
            "Host: evil.example",
            &format!("http://127.0.0.1:{port}/graphiql/users.json"),
        ])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&rebound.stdout), "{\"users\":[]}");

    running.signal("INT");
    assert_eq!(running.wait(), Some(0), "Ctrl-C ends it cleanly");

    let running = Running::start(&mut dev(folder.path(), port), LAST_LINE);
    let body = run_pasted_command(&running.stdout, str::to_owned);
    assert_eq!(body["data"]["organization"]["projects"]["nodes"][0]["name"], "kept");
    assert_eq!(
        run_pasted_command(&screen, str::to_owned),
        body,
        "tokens of the first start are still good"
    );
}

fn pid_file(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder.join("data")).unwrap().filter_map(Result::ok);
    files
        .map(|entry| entry.path().join("data/postmaster.pid"))
        .find(|path| path.exists())
        .expect("a running PostgreSQL")
}

fn postgres_pid(folder: &Path) -> String {
    let text = std::fs::read_to_string(pid_file(folder)).unwrap();
    text.lines().next().unwrap().to_owned()
}

#[test]
fn a_second_start_is_refused_and_a_killed_one_leaves_nothing_running() {
    let folder = folder();
    let (first, second) = (free_port(), free_port());
    let mut running = Running::start(&mut dev(folder.path(), first), LAST_LINE);
    let pid = postgres_pid(folder.path());
    assert!(Path::new(&format!("/proc/{pid}")).exists());

    let refused = process::run(&mut dev(folder.path(), second));
    assert_eq!(refused.code, Some(1));
    let expected = format!("another tenantry (process {})", running.child.id());
    assert!(refused.stderr.contains(&expected), "{}", refused.stderr);
    let refused = process::run(&mut dev(&folder.path().join("other"), first));
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains(&format!("port {first}")), "{}", refused.stderr);
    run_pasted_command(&running.stdout, create);

    running.signal("KILL");
    running.wait();
    eventually("PostgreSQL outlives its owner", || !Path::new(&format!("/proc/{pid}")).exists());

    // Killed again and restarted at once: the next start waits for the processes that are still
    // ending.
    let mut running = Running::start(&mut dev(folder.path(), first), LAST_LINE);
    running.signal("KILL");
    running.wait();
    let running = Running::start(&mut dev(folder.path(), first), LAST_LINE);
    let body = run_pasted_command(&running.stdout, str::to_owned);
    assert_eq!(body["data"]["organization"]["projects"]["nodes"][0]["name"], "kept");
}

#[test]
fn a_trial_plan_that_does_not_exist_is_refused() {
    let folder = folder();
    let refused = process::run(dev(folder.path(), free_port()).env("TRIAL_PLAN", "gold"));
    process::failed(&refused, "setting TRIAL_PLAN names the plan gold, which does not exist");
}

#[test]
fn a_normal_user_needs_no_more_than_root() {
    if !nix::unistd::geteuid().is_root() {
        // Then every test here runs as a normal user already.
        return;
    }
    let folder = folder();
    let program = folder.path().join("tenantry");
    std::fs::copy(env!("CARGO_BIN_EXE_tenantry"), &program).unwrap();
    let home = folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    assert!(Command::new("chown").arg("nobody").arg(&home).status().unwrap().success());
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"])
        .arg(&program)
        .env("HOME", &home)
        .env("PORT", free_port().to_string())
        .env_remove("XDG_DATA_HOME")
        .current_dir("/");
    let running = Running::start(&mut command, LAST_LINE);
    let data = home.join(".local/share/tenantry");
    // This process is root, which has another default folder.
    let here = |command: &str| {
        command.replace("acme-owner", &format!("acme-owner --data-dir {}", data.display()))
    };
    assert_eq!(run_pasted_command(&running.stdout, here)["data"]["organization"]["name"], "Acme");
    assert!(data.is_dir());
}

#[test]
fn without_postgresql_the_message_says_what_to_install() {
    let folder = folder();
    let output = process::run(dev(folder.path(), free_port()).env("PG_BIN_DIR", "/nonexistent"));
    assert_eq!(output.code, Some(1));
    let last = output.stderr.lines().last().unwrap();
    assert!(last.contains("apt-get install postgresql") && last.contains("PG_BIN_DIR"), "{last}");
}

#[test]
fn a_directory_with_other_content_is_left_unchanged() {
    let folder = folder();
    let foreign = folder.path().join("data");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("letter.txt"), "dear").unwrap();
    let before = std::fs::metadata(&foreign).unwrap().permissions();
    let output = process::run(&mut dev(folder.path(), free_port()));
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("contains other files"), "{}", output.stderr);
    assert_eq!(std::fs::metadata(&foreign).unwrap().permissions(), before);
    assert_eq!(std::fs::read_dir(&foreign).unwrap().count(), 1);
}

#[test]
fn a_reused_process_id_is_not_signalled() {
    let folder = folder();
    let port = free_port();
    let mut running = Running::start(&mut dev(folder.path(), port), LAST_LINE);
    let stale = pid_file(folder.path());
    let text = std::fs::read_to_string(&stale).unwrap();
    running.signal("INT");
    assert_eq!(running.wait(), Some(0));
    let mut bystander = Command::new("sleep").arg("60").spawn().unwrap();
    let lines: Vec<_> = text.lines().skip(1).collect();
    std::fs::write(&stale, format!("{}\n{}\n", bystander.id(), lines.join("\n"))).unwrap();
    let running = Running::start(&mut dev(folder.path(), port), LAST_LINE);
    assert_eq!(
        run_pasted_command(&running.stdout, str::to_owned)["data"]["organization"]["name"],
        "Acme"
    );
    assert!(bystander.try_wait().unwrap().is_none(), "an unrelated process was stopped");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[test]
fn a_reset_begins_anew_also_after_a_newer_version() {
    let folder = folder();
    let port = free_port();
    let mut running = Running::start(&mut dev(folder.path(), port), LAST_LINE);
    run_pasted_command(&running.stdout, create);
    let newer = "INSERT INTO migration.seaql_migrations VALUES ('core/9999_later', 0)";
    let socket = running.stdout.split("tenantry -h").nth(1).unwrap();
    let socket = socket.split_whitespace().nth(1).unwrap();
    let mut psql = Command::new("psql");
    psql.args(["-h", socket, "-U", "postgres", "-d", "tenantry", "-c", newer]);
    process::succeeded(&process::run(&mut psql));
    running.signal("INT");
    assert_eq!(running.wait(), Some(0));

    let refused = process::run(&mut dev(folder.path(), port));
    assert_eq!(refused.code, Some(1));
    let data = folder.path().join("data").display().to_string();
    for expected in [&data, "newer version", "tenantry dev --reset"] {
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    }

    let running = Running::start(dev(folder.path(), port).arg("--reset"), LAST_LINE);
    let body = run_pasted_command(&running.stdout, str::to_owned);
    assert_eq!(body["data"]["organization"]["projects"]["nodes"].as_array().unwrap().len(), 4);
}

#[test]
fn settings_of_another_database_are_refused() {
    let folder = folder();
    let output = process::run(
        dev(folder.path(), free_port()).env("DATABASE_URL", "postgres://tenantry_app@db/app"),
    );
    assert_eq!(output.code, Some(1));
    assert_eq!(
        output.stderr,
        "tenantry: DATABASE_URL is set, but `tenantry dev` runs its own PostgreSQL. Unset it, or run `tenantry serve`.\n"
    );
}

#[test]
fn a_token_of_the_demo_needs_the_demo() {
    let folder = folder();
    let data = folder.path().display().to_string();
    let output =
        process::run(tenantry().args(["token", "--as", "acme-owner", "--data-dir", &data]));
    process::failed(&output, "Start it with `tenantry dev`.");
    let output = process::run(tenantry().args(["token", "--as", "acme-ownr"]));
    process::failed(&output, "A similar value exists: 'acme-owner'");
}
