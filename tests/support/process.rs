//! A server process that never outlives its test: a small shell holds it, and kills it when the test's end of a
//! pipe closes, be it by a drop, a panic, an abort or a kill -9. Nothing is ever found by name.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Runs "$@" with its output in the file $1; tells its pid; at the pipe's end kills it, and removes the directory
/// $2 unless told to keep it.
const HOLDER: &str = r#"
trap '' INT
log=$1 dir=$2
shift 2
"$@" >>"$log" 2>&1 </dev/null &
pid=$!
echo $pid
read -r word
kill -9 $pid 2>/dev/null
wait $pid 2>/dev/null
[ "$word" = keep ] || rm -rf "$dir"
"#;

/// A running server.
pub struct Process {
    holder: Child,
    pid: u32,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output in `dir`/server.log; `dir` goes when the process does.
    pub fn start(dir: &Path, command: &mut [String]) -> Self {
        let log = dir.join("server.log");
        let mut holder = Command::new("sh")
            .args(["-c", HOLDER, "holder"])
            .args([&log, dir])
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh runs");
        let mut pid = String::new();
        BufReader::new(holder.stdout.take().expect("piped"))
            .read_line(&mut pid)
            .expect("the holder tells the pid");
        Self { holder, pid: pid.trim().parse().expect("a pid"), log }
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Kills the server with SIGKILL and keeps its directory; returns when it is gone.
    pub fn kill(mut self) {
        if let Some(mut stdin) = self.holder.stdin.take() {
            stdin.write_all(b"keep\n").expect("the holder listens");
        }
        self.holder.wait().expect("the holder ends");
    }

    /// Waits until `ready` holds; panics with the end of the server's log when the server ends or is not ready in
    /// time.
    pub fn wait_until(&mut self, what: &str, mut ready: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(90);
        loop {
            if ready() {
                return;
            }
            let gone = !Path::new(&format!("/proc/{}", self.pid)).exists();
            assert!(
                !gone && Instant::now() < deadline,
                "{what} does not start; its log ends with:\n{}",
                self.log_end()
            );
            // There is no event for a port that opens.
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The end of what the server said.
    pub fn log_end(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// A loopback port that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// A new directory for a server's files.
pub fn server_dir(name: &str) -> PathBuf {
    tempfile::Builder::new().prefix(&format!("tallyman-{name}-")).tempdir().expect("a temporary directory").keep()
}

/// Where the servers' jars are. Panics, naming `make setup`, when they or Java are missing.
pub fn servers() -> PathBuf {
    let java = Command::new("java").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(
        java.is_ok_and(|status| status.success()),
        "java is missing; `make setup` installs what the tests need"
    );
    // Cargo runs tests in the package's folder. Its name is not compiled in: clones share a target directory.
    let script = "tests/support/fetch-servers.sh";
    let found = Command::new("sh").args([script, "--check"]).output().expect("sh runs");
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    PathBuf::from(String::from_utf8_lossy(&found.stdout).trim())
}
