//! Child processes that end with this process, however it ends. The kernel signals them when the
//! *thread* that started them ends, so one thread starts them all and lives as long as the process.

use std::{
    process::{Child, Command},
    sync::{Mutex, OnceLock, PoisonError, mpsc},
    thread,
};

type SpawnRequest = (Command, mpsc::Sender<std::io::Result<Child>>);

static SPAWNER: OnceLock<Mutex<mpsc::Sender<SpawnRequest>>> = OnceLock::new();

/// Returns a command that gets this signal when this process ends, if the system supports it.
pub fn ending_with_parent(program: impl AsRef<std::ffi::OsStr>, signal: &str) -> Command {
    let setpriv = std::path::Path::new("/usr/bin/setpriv");
    if !setpriv.is_file() {
        return Command::new(program);
    }
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", signal, "--"]).arg(program);
    command
}

/// Starts the command on the thread that lives as long as the process.
pub fn spawn(command: Command) -> Child {
    let spawner = SPAWNER.get_or_init(|| {
        let (send, receive) = mpsc::channel::<SpawnRequest>();
        thread::spawn(move || {
            for (mut command, response) in receive {
                let _ = response.send(command.spawn());
            }
        });
        Mutex::new(send)
    });
    let (send, receive) = mpsc::channel();
    spawner.lock().unwrap_or_else(PoisonError::into_inner).send((command, send)).unwrap();
    receive.recv().unwrap().unwrap()
}
