//! A gateway and two nodes as real processes, and clients that come in through the gateway.
#![allow(dead_code, reason = "not every test does everything")]

#[path = "../../../directory/tests/etcd/port.rs"]
mod port;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use outlast_link::tungstenite::{self, Message, WebSocket, client::IntoClientRequest};
use outlast_token::{ApiKeys, Claims, VideoGrant};
use tempfile::TempDir;

use port::free_port;

/// Longest that anything here may take on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);
const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// `WrappedJoinRequest` that holds an empty `JoinRequest`, in base64url.
const JOIN: &str = "EgA";

pub(crate) struct Process {
    pub(crate) name: &'static str,
    role: &'static str,
    listen: u16,
    beat: u16,
    admin: u16,
    pub(crate) child: Option<Child>,
}

/// Processes of one region. Dropping it kills them.
pub(crate) struct Cluster {
    dir: TempDir,
    pub(crate) processes: Vec<Process>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.processes.iter_mut().filter_map(|process| process.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Cluster {
    pub(crate) fn start() -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let names = [("gw", "gateway"), ("n1", "node"), ("n2", "node")];
        let processes = names.map(|(name, role)| {
            let (listen, admin, beat) = (free_port(), free_port(), free_port());
            Process { name, role, listen, beat, admin, child: None }
        });
        let mut cluster = Cluster { dir, processes: processes.into() };
        assert!(cluster.run(&["ca", "init", "--out", "."]).status.success());
        for index in 0..cluster.processes.len() {
            let name = cluster.processes[index].name;
            assert!(cluster.run(&["ca", "issue", "--name", name]).status.success());
            fs::write(cluster.file(name, "toml"), cluster.config(index)).unwrap();
        }
        for index in 0..cluster.processes.len() {
            let name = cluster.processes[index].name;
            let log = fs::File::create(cluster.file(name, "log")).unwrap();
            let mut command = Command::new(env!("CARGO_BIN_EXE_outlast"));
            command.args(["serve", "--config"]).arg(cluster.file(name, "toml"));
            let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
            cluster.processes[index].child = Some(child);
        }
        for process in &cluster.processes {
            cluster.until("it is ready", || {
                let mut answer = String::new();
                let Ok(mut stream) = TcpStream::connect(("127.0.0.1", process.admin)) else {
                    return false;
                };
                let request = "GET /healthz/ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
                stream.write_all(request.as_bytes()).unwrap();
                let _ = stream.read_to_string(&mut answer);
                answer.starts_with("HTTP/1.1 200")
            });
        }
        cluster
    }

    fn file(&self, name: &str, extension: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.{extension}"))
    }

    fn config(&self, of: usize) -> String {
        let Process { name, role, listen, beat, admin, .. } = &self.processes[of];
        let mut text = format!(
            "region = \"eu\"\nroles = [\"{role}\"]\n[keys]\nkey = \"{SECRET}\"\n\
             [cluster]\nsecret = \"{SECRET}\"\nca = \"ca.pem\"\ncert = \"{name}.pem\"\n\
             key = \"{name}.key\"\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n\
             [{role}]\nid = \"{name}\"\nlisten = \"127.0.0.1:{listen}\"\n\
             beat = \"127.0.0.1:{beat}\"\n"
        );
        if *role == "node" {
            text += "media_ports = 0\nshards = 1\nbind = [\"127.0.0.1\"]\n\
                     advertise = [\"127.0.0.1\"]\nlease_s = 4\n";
        }
        for Process { name, role, listen, beat, .. } in &self.processes {
            text += &format!(
                "[[peers]]\nrole = \"{role}\"\nid = \"{name}\"\nregion = \"eu\"\n\
                 beat = \"127.0.0.1:{beat}\"\n"
            );
            if *role == "node" {
                text += &format!("address = \"127.0.0.1:{listen}\"\n");
            }
        }
        text
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outlast"));
        command.args(arguments).current_dir(self.dir.path()).output().unwrap()
    }

    /// Runs `outlast drain` with the gateway's configuration.
    pub(crate) fn drain(&self, arguments: &[&str]) -> (bool, String, String) {
        let all = [&["drain", "--config", "gw.toml"], arguments].concat();
        let output = self.run(&all);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    }

    /// How many the node says are on it.
    pub(crate) fn participants(&self, node: &str) -> u64 {
        self.metric(node, "outlast_node_participants")
    }

    /// One of a node's metrics.
    pub(crate) fn metric(&self, node: &str, name: &str) -> u64 {
        let at = self.processes.iter().find(|process| process.name == node).unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", at.admin)).unwrap();
        let request = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let value = answer.lines().find_map(|line| {
            let (found, value) = line.split_once(' ')?;
            (found == name).then(|| value.parse().ok())?
        });
        value.unwrap_or_else(|| panic!("{name} is not in {answer}"))
    }

    /// The node on which the only participant is, and the other one.
    pub(crate) fn home(&self) -> (&'static str, &'static str) {
        self.until("a node reports its participant", || {
            self.participants("n1") + self.participants("n2") == 1
        });
        if self.participants("n1") == 1 { ("n1", "n2") } else { ("n2", "n1") }
    }

    /// Sends a signal to a process.
    pub(crate) fn signal(&self, name: &str, signal: &str) {
        let at = self.processes.iter().find(|process| process.name == name).unwrap();
        let pid = at.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Joins through the gateway, again and again until it is let in.
    pub(crate) fn join(&self, identity: &str) -> WebSocket<TcpStream> {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap();
        let video = VideoGrant { room_join: true, room: "r".into(), ..VideoGrant::default() };
        let claims = Claims {
            identity: identity.into(),
            expires_at: now.as_secs() + 600,
            video,
            ..Claims::default()
        };
        let token = ApiKeys::new([("key", SECRET)]).unwrap().mint(&claims, now);
        let port = self.processes[0].listen;
        let url = format!("ws://127.0.0.1:{port}/rtc/v1?join_request={JOIN}&access_token={token}");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let request = url.as_str().into_client_request().unwrap();
            match tungstenite::client::client(request, stream) {
                Ok((socket, _)) => return socket,
                Err(error) => assert!(Instant::now() < deadline, "{error}: {}", self.logs()),
            }
        }
    }

    pub(crate) fn until(&self, what: &str, mut met: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !met() {
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}\n{}", self.logs());
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn logs(&self) -> String {
        let log = |process: &Process| fs::read_to_string(self.file(process.name, "log")).unwrap();
        self.processes.iter().map(log).collect()
    }
}

/// Whether the session is told to join anew, at its end.
pub(crate) fn told_to_reconnect(socket: &mut WebSocket<TcpStream>) -> bool {
    // SignalResponse.leave is field 8; LeaveRequest.action is field 3, RECONNECT is 2.
    let is_told = |bytes: &[u8]| {
        bytes.first() == Some(&0x42) && bytes.windows(2).any(|pair| pair == [0x18, 2])
    };
    loop {
        match socket.read() {
            Ok(Message::Binary(bytes)) if is_told(&bytes) => return true,
            Ok(Message::Close(_)) | Err(_) => return false,
            Ok(_) => {}
        }
    }
}
