//! `outlast demo`: three regions as separate processes on loopback, a page to meet in, and buttons to break it with.
//! Nothing of it outlives this process: servers are on a leash and the directory is swept away (`leash`).

mod control;
mod database;
mod fleet;
mod home;
mod leash;
mod plan;
mod seen;

use std::{
    env, io,
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use hyper::body::Incoming;
use outlast_link::{ServerLimits, ServerTls};
use outlast_token::ApiKeys;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, watch},
    time::{MissedTickBehavior, interval},
};

use control::Control;
use database::Kind;
use fleet::{Ended, Fleet};
use home::Home;
use plan::{Planned, Role};
use seen::{Watched, is_ready};

/// Servers that are not ready after this are a failed demo.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How often the processes are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Options of `outlast demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Port of the first region's gateway; the demo uses this one minus 1 up to this one plus 241
    #[arg(long, default_value_t = 7880, value_parser = clap::value_parser!(u16).range(1025..=i64::from(plan::BASE_PORT_MAX)))]
    base_port: u16,
    /// What keeps which node has which room: nothing but the gateways, or a real database with a server in each region, which is
    /// killed and frozen together with the region
    #[arg(long, value_enum, default_value_t)]
    directory: Kind,
    /// Directory of the built page [default: web/dist]
    #[arg(long)]
    page_dir: Option<PathBuf>,
    /// Program to run instead of this one for the servers
    #[arg(long, hide = true)]
    server: Option<PathBuf>,
    /// Internal: start a server that dies with this process number
    #[arg(long, hide = true, requires = "program")]
    leash: Option<i32>,
    /// Internal: remove this directory when standard input ends
    #[arg(long, hide = true)]
    sweep: Option<PathBuf>,
    /// Internal: what to start on the leash
    #[arg(last = true, hide = true)]
    program: Vec<String>,
}

/// Why the demo cannot start, or ended.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error(
        "the demo page is not built: no index.html in {0}\nBuild it with `make demo`, or by hand with \
         `npm ci && npm run build` in web/, or name another place with --page-dir."
    )]
    NoPage(PathBuf),
    #[error(
        "these ports on 127.0.0.1 are taken:\n{0}\nEnd what uses them, or move the whole demo with --base-port \
         (now {1}), e.g. `outlast demo --base-port {2}`."
    )]
    Taken(String, u16, u16),
    #[error(
        "{0} is not installed: `scripts/need-debian engines` installs it, or the Debian packages etcd-server and redis-server"
    )]
    NoProgram(&'static str),
    #[error("cannot connect to the directory: {0}")]
    Directory(#[source] anyhow::Error),
    #[error(transparent)]
    Home(#[from] home::HomeError),
    #[error("cannot start the servers")]
    Start(#[source] io::Error),
    #[error("cannot listen for the page's buttons")]
    Listen(#[source] io::Error),
    #[error("{0} ended while it started ({1}); the end of its log:\n{2}")]
    Ended(String, String, String),
    #[error("not ready within {within:?}: {ids}", within = READY_WITHIN)]
    NotReady { ids: String },
}

/// Runs the demo until Ctrl-C, SIGTERM or SIGHUP. Must be called on the main thread and outside an async runtime: the
/// kernel ends the servers together with the thread that started them.
pub(crate) fn run(args: DemoArgs) -> ExitCode {
    if let Some(parent) = args.leash {
        return leash::run_on_leash(parent, &args.program);
    }
    if let Some(dir) = &args.sweep {
        return leash::sweep(dir);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(demo(args)),
        Err(error) => Err(DemoError::Start(error)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outlast demo: {error}");
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                eprintln!("  because: {cause}");
                source = cause.source();
            }
            ExitCode::FAILURE
        }
    }
}

async fn demo(args: DemoArgs) -> Result<(), DemoError> {
    // Before anything is started: from here on Ctrl-C means to clean up.
    let mut stop = Stop::new().map_err(DemoError::Start)?;
    let own_program = env::current_exe().map_err(DemoError::Start)?;
    let page = find_page(args.page_dir)?;
    check_programs(args.directory)?;
    let all = plan::processes(args.base_port, args.directory);
    let port = plan::control_port(args.base_port);
    check_ports(&all, port, args.base_port)?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await;
    let listener = listener.map_err(DemoError::Listen)?;

    let key = plan::ApiKey { name: "demo".into(), secret: home::random_hex::<24>()? };
    let home = Home::make(&own_program)?;
    let server = args.server.unwrap_or_else(|| own_program.clone());
    let start =
        |one: &Planned| (home.command_of(one, &all, args.directory, &server), home.log_of(&one.id));
    let fleet = Arc::new(Mutex::new(Fleet::new(own_program, args.directory, &all, start)));
    let result = async {
        home.furnish(&all, args.directory, &key, &page, &format!("http://127.0.0.1:{port}"))?;
        let keys = ApiKeys::new([(key.name, key.secret)]).expect("one key with a secret");
        let (_shutdown, serving) = watch::channel(false);
        let wipe = Arc::new(Notify::new());
        let wiped = Some(wipe.clone()).filter(|_| args.directory != Kind::Embedded);
        let control = control(fleet.clone(), keys, wiped, &all, port);
        tokio::spawn(serve_control(listener, control, serving));
        with(&fleet, Fleet::start_all).map_err(DemoError::Start)?;
        println!("Starting three regions with a gateway and two nodes each ...");
        let directory = Watched::connect(args.directory, &all).map_err(DemoError::Directory)?;
        tokio::select! {
            result = start_and_watch(&fleet, &all, directory.as_ref()) => result,
            () = wipe_when_asked(directory.as_ref(), &wipe) => Ok(()),
            () = stop.asked() => Ok(()),
        }
    }
    .await;
    println!("\nStopping everything.");
    // Frozen servers too; the directory goes when nobody writes into it any more.
    with(&fleet, |fleet| fleet.end());
    home.remove();
    result
}

/// The signals that end the demo.
struct Stop(Signal, Signal, Signal);

impl Stop {
    fn new() -> io::Result<Stop> {
        Ok(Stop(
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ))
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
            _ = self.2.recv() => {}
        }
    }
}

fn with<T>(fleet: &Mutex<Fleet>, act: impl FnOnce(&mut Fleet) -> T) -> T {
    act(&mut fleet.lock().expect("no panic while the fleet is held"))
}

fn find_page(wish: Option<PathBuf>) -> Result<PathBuf, DemoError> {
    let built = |dir: &Path| dir.join("index.html").is_file();
    if let Some(dir) = wish {
        return if built(&dir) { Ok(dir) } else { Err(DemoError::NoPage(dir)) };
    }
    let beside_sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web/dist");
    let places = [PathBuf::from("web/dist"), beside_sources];
    let found = places.iter().find(|dir| built(dir)).cloned();
    found.ok_or_else(|| DemoError::NoPage(places[0].clone()))
}

fn check_programs(directory: Kind) -> Result<(), DemoError> {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_there = |program: &&&str| env::split_paths(&path).any(|dir| dir.join(program).is_file());
    match directory.programs().iter().find(|program| !is_there(program)) {
        Some(program) => Err(DemoError::NoProgram(program)),
        None => Ok(()),
    }
}

fn check_ports(all: &[Planned], control: u16, base: u16) -> Result<(), DemoError> {
    let mut taken = String::new();
    let mut check = |free: bool, port: u16, kind: &str, what: &str| {
        if !free {
            taken.push_str(&format!("  {port}/{kind} (for {what})\n"));
        }
    };
    let tcp = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let udp = |port| UdpSocket::bind(("127.0.0.1", port)).is_ok();
    check(tcp(control), control, "tcp", "the demo itself");
    for one in all {
        check(tcp(one.listen), one.listen, "tcp", &one.id);
        check(tcp(one.admin), one.admin, "tcp", &one.id);
        if !one.role.is_ours() {
            check(tcp(one.beat), one.beat, "tcp", &one.id);
            continue;
        }
        for port in [Some(one.beat), one.media].into_iter().flatten() {
            check(udp(port), port, "udp", &one.id);
        }
    }
    if taken.is_empty() {
        return Ok(());
    }
    let other = if base <= 20_000 { base + 10_000 } else { 7880 };
    Err(DemoError::Taken(taken.trim_end().to_owned(), base, other))
}

/// `wipe` is told when the directory is to be wiped, if it can be.
fn control(
    fleet: Arc<Mutex<Fleet>>,
    keys: ApiKeys,
    wipe: Option<Arc<Notify>>,
    all: &[Planned],
    port: u16,
) -> Control {
    let names = ["127.0.0.1", "localhost"];
    let gateways = all.iter().filter(|one| one.role == Role::Gateway);
    let origins = gateways
        .flat_map(|one| names.map(|name| format!("http://{name}:{}", one.listen)))
        .collect();
    let hosts = names.map(|name| format!("{name}:{port}")).to_vec();
    Control { fleet, keys, wipe, hosts, origins }
}

fn serve_control(
    listener: tokio::net::TcpListener,
    control: Control,
    shutdown: watch::Receiver<bool>,
) -> impl Future<Output = ()> + use<> {
    let control = Arc::new(control);
    let handler = move |_peer, request: http::Request<Incoming>| {
        let control = control.clone();
        async move {
            let uri = request.uri();
            let query = uri.query().unwrap_or_default();
            control.answer(request.method(), uri.path(), query, request.headers())
        }
    };
    outlast_link::serve(listener, ServerTls::Plain, ServerLimits::default(), handler, shutdown)
}

/// Wipes the directory each time that somebody asks for it, for ever.
async fn wipe_when_asked(directory: Option<&Watched>, asked: &Notify) {
    let Some(directory) = directory else { return std::future::pending().await };
    loop {
        asked.notified().await;
        match directory.wipe().await {
            Ok(keys) => println!("The directory has been wiped: {keys} keys deleted."),
            Err(error) => println!("The directory cannot be wiped now: {error:#}"),
        }
    }
}

/// Waits until everything is ready, says so, and then reports servers that end by themselves, for ever.
async fn start_and_watch(
    fleet: &Mutex<Fleet>,
    all: &[Planned],
    directory: Option<&Watched>,
) -> Result<(), DemoError> {
    let deadline = Instant::now() + READY_WITHIN;
    let mut announced = false;
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        for Ended { id, how, log } in with(fleet, Fleet::reap) {
            if !announced {
                return Err(DemoError::Ended(id, how, log));
            }
            println!("{id} ended by itself ({how}); the end of its log:\n{log}");
        }
        let starting = with(fleet, |fleet| fleet.starting());
        for one in &starting {
            if is_ready(one).await {
                with(fleet, |fleet| fleet.ready(&one.id));
            }
        }
        if let Some(directory) = directory {
            with(fleet, |fleet| fleet.decided_at(&directory.ports()));
        }
        if announced {
            continue;
        }
        if with(fleet, |fleet| fleet.all_running()) {
            announced = true;
            welcome(all);
        } else if Instant::now() > deadline && !starting.is_empty() {
            let ids: Vec<String> = starting.into_iter().map(|one| one.id).collect();
            return Err(DemoError::NotReady { ids: ids.join(", ") });
        }
    }
}

fn welcome(all: &[Planned]) {
    println!(
        "\nThree regions are up. Open one of these pages, and a second one in another window:\n"
    );
    for region in &plan::REGIONS {
        println!("  {:<8} {}/", region.label, plan::gateway_origin(all, region.name));
    }
    println!(
        "\nJoin the same room in both, then press Kill, Freeze or Drain for a region and watch the call go on.\n\
         The page measures what you missed. Bring the region back with its last button.\n"
    );
    for one in all {
        if !one.role.is_ours() {
            println!("  {:<11} tcp {}, peers tcp {}", one.id, one.listen, one.beat);
            continue;
        }
        let media = one.media.map_or(String::new(), |port| format!(", media udp {port}"));
        println!(
            "  {:<11} tcp {}, health tcp {}, beats udp {}{media}",
            one.id, one.listen, one.admin, one.beat
        );
    }
    println!("\nCtrl-C ends it all and leaves nothing behind.");
}
