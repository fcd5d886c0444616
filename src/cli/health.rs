//! `tenantry health`

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use super::{Failure, runtime};
use crate::config::ListenConfig;

/// Longer than a process that lives takes.
const WAIT: Duration = Duration::from_secs(2);

/// Ask the server on this machine whether it lives: for the health checks of containers, which have
/// no other program to ask with.
#[derive(Debug, clap::Args)]
pub(super) struct Health {
    #[command(flatten)]
    listen: ListenConfig,
    /// Ask whether it can do its work as well.
    #[arg(long)]
    ready: bool,
}

impl Health {
    pub(super) fn run(self) -> Result<(), Failure> {
        let address = reachable(self.listen.admin_addr.unwrap_or(self.listen.listen_addr));
        let path = if self.ready { "readyz" } else { "healthz" };
        let url = format!("http://{address}/{path}");
        runtime()?.block_on(async {
            let client = reqwest::Client::builder().no_proxy().timeout(WAIT).build();
            let asked = client.map_err(Failure::new)?.get(&url).send().await;
            match asked.map(|answer| answer.status()) {
                Ok(status) if status.is_success() => Ok(()),
                Ok(status) => Err(Failure::new(format!("{url} answers {status}"))),
                Err(error) if error.is_timeout() => {
                    Err(Failure::new(format!("{url} does not answer")))
                }
                Err(_) => Err(Failure::new(format!("nobody listens at {address}"))),
            }
        })
    }
}

/// Where a server that listens everywhere is found.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
