//! `tenantry health`: the health check for containers, which have no other HTTP client.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use super::{Failure, runtime};
use crate::config::ListenConfig;

/// More than a live process needs to respond.
const WAIT: Duration = Duration::from_secs(2);

/// Check that the server on this machine is alive, for health checks of containers.
#[derive(Debug, clap::Args)]
pub(super) struct Health {
    #[command(flatten)]
    listen: ListenConfig,
    /// Check that it is ready to serve too.
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
            let response = client?.get(&url).send().await;
            match response.map(|response| response.status()) {
                Ok(status) if status.is_success() => Ok(()),
                Ok(status) => Err(Failure::new(format!("{url} responded with {status}"))),
                Err(error) if error.is_timeout() => {
                    Err(Failure::new(format!("{url} did not respond in time")))
                }
                Err(_) => Err(Failure::new(format!("no server listens at {address}"))),
            }
        })
    }
}

/// The address at which a server that listens on all addresses can be reached.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
