//! Encrypted connections as libpq makes them, to a server with a self-signed certificate.

use std::{fs, os::unix::fs::chown, path::Path, process::Command};

use pg::{Client, ConnectOptions};
use tenantry::tenancy::transport_finding;

use crate::{
    command_line::free_port,
    support::cluster::{Cluster, new_folder, server_account},
};

/// Creates a self-signed certificate, `name.crt`, and its key.
fn certificate(folder: &Path, name: &str, subject: &str) -> String {
    let (key, certificate) =
        (folder.join(format!("{name}.key")), folder.join(format!("{name}.crt")));
    let output = Command::new("openssl")
        .args([
            "req", "-new", "-x509", "-days", "2", "-nodes", "-subj", "/CN=test", "-addext", subject,
        ])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    if let Some((user, group)) = server_account() {
        chown(&key, Some(user), Some(group)).unwrap();
    }
    certificate.display().to_string()
}

struct TlsServer {
    _cluster: Cluster,
    folder: std::path::PathBuf,
    port: u16,
    certificate: String,
}

impl TlsServer {
    /// Starts a server on TCP with these rules of `pg_hba.conf`.
    fn start(rules: &str) -> Self {
        let (folder, port) = (new_folder(), free_port());
        let certificate = certificate(&folder, "server", "subjectAltName=IP:127.0.0.1");
        let hba = folder.join("hba.conf");
        fs::write(&hba, rules).unwrap();
        let settings = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={port}"),
            "ssl=on".to_owned(),
            format!("ssl_cert_file={certificate}"),
            format!("ssl_key_file={}", folder.join("server.key").display()),
            format!("hba_file={}", hba.display()),
        ];
        let cluster = Cluster::start(&settings.each_ref().map(String::as_str));
        Self { _cluster: cluster, folder, port, certificate }
    }

    /// Connects with these parameters, and returns whether the connection is encrypted.
    async fn connect(&self, host: &str, parameters: &str) -> pg::Result<bool> {
        let Self { port, .. } = self;
        let url = format!("postgres://tenantry_app@{host}:{port}/app?{parameters}");
        let client = Client::connect(&url.parse::<ConnectOptions>().unwrap()).await?;
        let is_encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        client.query_one(is_encrypted, &[]).await
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test]
async fn a_self_signed_certificate_is_its_own_root() {
    let server = TlsServer::start("hostssl all all all trust\n");
    let root = &server.certificate;
    for mode in ["require", "verify-ca", "verify-full"] {
        let parameters = format!("sslmode={mode}&sslrootcert={root}");
        assert!(server.connect("127.0.0.1", &parameters).await.unwrap(), "{mode}");
        // Another certificate is not trusted, though it has the same name.
        let other = certificate(&server.folder, "other", "subjectAltName=IP:127.0.0.1");
        let parameters = format!("sslmode={mode}&sslrootcert={other}");
        let refused = server.connect("127.0.0.1", &parameters).await.unwrap_err().to_string();
        assert!(refused.contains("certificate"), "{refused}");
    }
    let parameters = format!("sslmode=verify-full&sslrootcert={root}");
    let refused = server.connect("localhost", &parameters).await.unwrap_err().to_string();
    assert!(refused.contains("not valid for name"), "{refused}");
    assert!(server.connect("localhost", &parameters.replace("full", "ca")).await.unwrap());
}

#[tokio::test]
async fn weak_modes_use_what_the_server_accepts() {
    let (with, without) = ("hostssl all all all trust\n", "hostnossl all all all trust\n");
    for (rules, is_encrypted, other) in [(with, true, "disable"), (without, false, "require")] {
        let server = TlsServer::start(rules);
        let same = if is_encrypted { "require" } else { "disable" };
        for mode in ["prefer", "allow", same] {
            let outcome = server.connect("127.0.0.1", &format!("sslmode={mode}")).await;
            assert_eq!(outcome.unwrap(), is_encrypted, "{mode}, {rules}");
        }
        let refused = server.connect("127.0.0.1", &format!("sslmode={other}")).await.unwrap_err();
        assert!(refused.to_string().contains("no pg_hba.conf entry"), "{refused}");
    }
}

#[test]
fn only_another_host_needs_tls() {
    let problem = |rest: &str| {
        let connect: ConnectOptions = format!("postgres://me:secret@{rest}").parse().unwrap();
        transport_finding("DATABASE_URL", &connect).map(|finding| finding.to_string())
    };
    for rest in [
        "localhost/a",
        "LOCALHOST:6432/a?sslmode=disable",
        "127.0.0.2/a",
        "[::1]/a",
        "[::ffff:127.0.0.1]/a",
        "db.example/a?host=/run/postgresql",
        "%2Frun%2Fpostgresql/a",
        "db.example/a?sslmode=require",
        "db.example/a?sslmode=verify-ca",
        "10.0.0.1/a?sslmode=verify-full",
    ] {
        assert_eq!(problem(rest), None, "{rest}");
    }
    for (rest, expected) in [
        ("db.example/a", "db.example with sslmode=prefer"),
        ("10.0.0.1/a?sslmode=disable", "10.0.0.1 with sslmode=disable"),
        ("[fd00::1]/a?sslmode=allow", "with sslmode=allow"),
        ("localhost.example/a", "localhost.example with"),
    ] {
        let problem = problem(rest).unwrap();
        assert!(problem.contains(expected) && !problem.contains("secret"), "{problem}");
    }
}
