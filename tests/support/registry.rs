//! A real schema registry with Confluent's API (Apicurio, in memory), on a free loopback port.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use super::process::{Process, free_port, server_dir, servers};

/// A registry.
pub struct Registry {
    port: u16,
    dir: PathBuf,
    process: Option<Process>,
}

impl Registry {
    /// The registry that all tests of this binary share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Registry> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// A registry of one's own, ready to serve.
    pub fn start() -> Self {
        let mut registry = Self { port: free_port(), dir: server_dir("registry"), process: None };
        registry.restart();
        registry
    }

    /// Starts it again, empty, on the same port.
    pub fn restart(&mut self) {
        let jar = servers().join("registry").join("apicurio-registry-app-2.5.11.Final-runner.jar");
        let mut command = [
            "java".to_owned(),
            "-Xmx512m".to_owned(),
            "-Dquarkus.http.host=127.0.0.1".to_owned(),
            format!("-Dquarkus.http.port={}", self.port),
            "-jar".to_owned(),
            jar.display().to_string(),
        ];
        let mut process = Process::start(&self.dir, &mut command);
        process.wait_until("the schema registry", || answers(self.port));
        self.process = Some(process);
    }

    /// Kills it with SIGKILL: from here on its clients are refused.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// The URL of its Confluent-compatible API, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/apis/ccompat/v7", self.port)
    }
}

/// Whether the list of subjects is served.
fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let request = "GET /apis/ccompat/v7/subjects HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n";
    let mut answer = [0; 12];
    stream.write_all(request.as_bytes()).is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && answer.ends_with(b"200")
}

impl Drop for Registry {
    fn drop(&mut self) {
        if self.process.take().is_none() {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}
