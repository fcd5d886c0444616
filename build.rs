//! Builds the GraphiQL page from `web/` with npm and embeds it in the binary. Without npm, or with
//! `TENANTRY_WEB=skip`, the server shows a page that says how to build GraphiQL. With
//! `TENANTRY_WEB=require`, a page that cannot be built fails the build.

use std::{
    env,
    fmt::Write as _,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};

/// The inputs of the page. Other files in `web/`, such as installed packages, do not trigger a
/// rebuild.
const SOURCES: [&str; 6] =
    ["index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts", "src"];

/// More than a slow network needs, so that a hanging npm does not block the build forever.
const TIME_LIMIT: Duration = Duration::from_mins(5);

fn main() -> Result<(), String> {
    println!("cargo:rerun-if-env-changed=TENANTRY_WEB");
    println!("cargo:rerun-if-changed=build.rs");
    for source in SOURCES {
        println!("cargo:rerun-if-changed=web/{source}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let wanted = env::var("TENANTRY_WEB").unwrap_or_default();
    let page = if wanted == "skip" { Err("TENANTRY_WEB=skip".to_owned()) } else { build(&out) };
    let code = match page {
        Ok(dist) => embed(&dist, &out)?,
        Err(reason) if wanted == "require" => return Err(format!("GraphiQL's page: {reason}")),
        Err(reason) => {
            println!("cargo:warning=GraphiQL's page is not built in: {reason}");
            if wanted != "skip" {
                // This path never exists, so the next build tries again, perhaps with npm or a
                // network.
                println!("cargo:rerun-if-changed=web/never");
            }
            format!(
                "static FILES: [File; 0] = [];\nstatic MISSING: Option<&str> = Some({reason:?});\n"
            )
        }
    };
    fs::write(out.join("web.rs"), code).map_err(|error| error.to_string())
}

/// Installs and builds in a copy, which leaves the checkout unchanged. Returns the folder of the
/// built page.
fn build(out: &Path) -> Result<PathBuf, String> {
    let npm = Command::new("npm").arg("--version").stdout(Stdio::null()).status();
    if !npm.is_ok_and(|status| status.success()) {
        return Err("npm is missing".to_owned());
    }
    let root =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?);
    let work = out.join("web");
    // A file that was deleted in `web/` must not survive in the copy.
    let _ = fs::remove_dir_all(work.join("src"));
    for source in SOURCES {
        copy(&root.join("web").join(source), &work.join(source))?;
    }
    let lock =
        fs::read_to_string(work.join("package-lock.json")).map_err(|error| error.to_string())?;
    let installed = work.join("installed-lock.json");
    if fs::read_to_string(&installed).ok().as_deref() != Some(&lock) {
        run(&work, "npm", &["ci", "--include=dev", "--no-audit", "--no-fund"])?;
        fs::write(installed, lock).map_err(|error| error.to_string())?;
    }
    let dist = work.join("dist");
    run(
        &work,
        "npx",
        &["vite", "build", "--outDir", "dist", "--emptyOutDir", "--logLevel", "warn"],
    )?;
    Ok(dist)
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let problem = |error: std::io::Error| format!("{}: {error}", from.display());
    if from.is_dir() {
        fs::create_dir_all(to).map_err(problem)?;
        for entry in fs::read_dir(from).map_err(problem)? {
            let name = entry.map_err(problem)?.file_name();
            copy(&from.join(&name), &to.join(&name))?;
        }
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(problem)?;
    }
    // A copy of a read-only file is read-only itself and could not be overwritten.
    let _ = fs::remove_file(to);
    fs::copy(from, to).map(drop).map_err(problem)
}

/// Runs a program. Its output goes to the file in which cargo keeps a build script's output.
fn run(folder: &Path, program: &str, arguments: &[&str]) -> Result<(), String> {
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    let started = Instant::now();
    loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("{program} {} ended with {status}", arguments[0])),
            None if started.elapsed() > TIME_LIMIT => {
                end(&mut child);
                return Err(format!("{program} {} took too long", arguments[0]));
            }
            None => thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn end(child: &mut Child) {
    // The process may have ended in the meantime.
    let _ = child.kill();
    let _ = child.wait();
}

/// Compresses every file and returns a Rust table of them.
fn embed(dist: &Path, out: &Path) -> Result<String, String> {
    let mut files = Vec::new();
    list(dist, dist, &mut files)?;
    files.sort();
    let packed = out.join("packed");
    fs::create_dir_all(&packed).map_err(|error| error.to_string())?;
    let mut code = format!(
        "static MISSING: Option<&str> = None;\nstatic FILES: [File; {}] = [\n",
        files.len()
    );
    for (number, name) in files.iter().enumerate() {
        let bytes = fs::read(dist.join(name)).map_err(|error| format!("{name}: {error}"))?;
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&bytes).map_err(|error| error.to_string())?;
        let gzip = encoder.finish().map_err(|error| error.to_string())?;
        let file = packed.join(number.to_string());
        fs::write(&file, gzip).map_err(|error| error.to_string())?;
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        writeln!(
            code,
            "    File {{ name: {name:?}, content_type: {:?}, etag: \"\\\"{:016x}\\\"\", gzip: include_bytes!({:?}) }},",
            content_type(name),
            hasher.finish(),
            file.display().to_string()
        )
        .map_err(|error| error.to_string())?;
    }
    code.push_str("];\n");
    Ok(code)
}

fn list(root: &Path, folder: &Path, files: &mut Vec<String>) -> Result<(), String> {
    for entry in fs::read_dir(folder).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        if path.is_dir() {
            list(root, &path, files)?;
        } else {
            let name = path.strip_prefix(root).map_err(|error| error.to_string())?;
            files.push(name.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "ttf" => "font/ttf",
        "woff2" => "font/woff2",
        "json" => "application/json",
        _ => "application/octet-stream",
    }
}
