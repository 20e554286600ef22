//! Configurations good and bad, each with what must be said of it.

use std::fs;

use super::{At, KEYS, Override, Settings, read, schema::PEER_KEYS};

const GOOD: &str = r#"region = "eu"
regions = ["eu", "us"]
roles = ["gateway", "node"]
[keys]
key = "0123456789abcdef0123456789abcdef"
[cluster]
secret = "fedcba9876543210fedcba9876543210"
ca = "ca.pem"
cert = "eu-1.pem"
key = "eu-1.key"
[node]
id = "eu-1"
advertise = ["203.0.113.7"]
[[peers]]
role = "gateway"
id = "us-gw"
region = "us"
beat = "us.example.net:7890"
[[peers]]
role = "node"
id = "us-1"
region = "us"
address = "us-1.example.net:7881"
beat = "us-1.example.net:7891"
"#;

/// Folders of `deploy` with a directory for three regions.
const ENGINES: [&str; 4] = ["etcd", "shards", "sentinel", "cluster"];

/// A folder with the files that [`GOOD`] names.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().expect("a temporary folder"));
        folder.write("ca.pem", "-----BEGIN CERTIFICATE-----");
        folder.write("eu-1.pem", "-----BEGIN CERTIFICATE-----");
        folder.write("eu-1.key", "-----BEGIN PRIVATE KEY-----");
        folder.write("short", "abc\n");
        folder.write("keys", "# ours\nother: 0123456789abcdef0123456789abcdef\n");
        folder.write("bad-keys", "no colon here\n");
        folder
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).expect("a temporary file");
    }

    fn read(&self, text: &str, overrides: &[Override]) -> Result<Settings, Vec<String>> {
        let shown =
            |mistakes: Vec<super::Mistake>| mistakes.iter().map(|m| m.to_string()).collect();
        read(text, self.0.path(), overrides, 2).map_err(shown)
    }
}

/// (text of GOOD that is replaced, its replacement, how the only mistake begins)
const ROWS: &[(&str, &str, &str)] = &[
    // TOML itself
    ("region = \"eu\"", "region = eu", "line 1: file: this is not TOML"),
    ("[node]\n", "[node\n", "line 11: file: this is not TOML"),
    (
        "[node]\nid = \"eu-1\"",
        "[node]\nid = \"eu-1\"\nid = \"eu-2\"",
        "line 13: file: this is not TOML",
    ),
    // names of keys
    ("regions", "regoins", "line 2: regoins: there is no such key. Write regions"),
    (
        "advertise",
        "advertize",
        "line 13: node.advertize: there is no such key. Write node.advertise",
    ),
    ("[node]", "listen = \"x\"\n[node]", "line 11: cluster.listen: there is no such key. Write"),
    ("[node]", "[media]\nx = 1\n[node]", "line 11: media: there is no such key. Remove it"),
    ("roles =", "debug = 1\nroles =", "line 3: debug: there is no such key"),
    (
        "id = \"us-1\"",
        "id = \"us-1\"\nadress = \"x:1\"",
        "line 22: peers[1].adress: there is no such key. Write address",
    ),
    // types
    ("region = \"eu\"", "region = 7", "line 1: region: 7 stands where a text belongs"),
    ("region = \"eu\"", "region = \"\"", "line 1: region: \"\" is no name"),
    ("id = \"eu-1\"", "id = \"eu 1\"", "line 12: node.id: \"eu 1\" is no name"),
    (
        "[\"gateway\", \"node\"]",
        "[\"gateway\", \"nod\"]",
        "line 3: roles: \"nod\" is not one of: gateway, node",
    ),
    ("[\"gateway\", \"node\"]", "[]", "line 3: roles: the list is empty"),
    ("[\"gateway\", \"node\"]", "[1]", "line 3: roles: a list that holds more than texts"),
    ("[node]", "[node]\nshards = \"2\"", "line 12: node.shards: \"2\" stands where a whole number"),
    ("[node]", "[node]\nshards = 1.5", "line 12: node.shards: a fraction stands"),
    ("[node]", "[node]\nshards = 257", "line 12: node.shards: 257 is not between 0 and 256"),
    ("[node]", "[node]\nmedia_ports = 70000", "line 12: node.media_ports: 70000 is not between"),
    (
        "[node]",
        "[node]\nlisten = \"7881\"",
        "line 12: node.listen: \"7881\" is no address and port",
    ),
    (
        "[node]",
        "[node]\nlisten = \"localhost:7881\"",
        "line 12: node.listen: \"localhost:7881\" is no address",
    ),
    (
        "[node]",
        "[log]\nformat = \"xml\"\n[node]",
        "line 12: log.format: \"xml\" is not one of: text, json",
    ),
    (
        "[node]",
        "[debug]\npanic_hook = 1\n[node]",
        "line 12: debug.panic_hook: 1 stands where a flag",
    ),
    (
        "[\"203.0.113.7\"]",
        "[\"node.example.net\"]",
        "line 13: node.advertise: \"node.example.net\" is no IP address",
    ),
    (
        "us.example.net:7890",
        "us.example.net",
        "line 18: peers[0].beat: \"us.example.net\" is no host and port",
    ),
    (
        "us.example.net:7890",
        "us.example.net:0",
        "line 18: peers[0].beat: \"us.example.net:0\" is no host",
    ),
    // what must be there
    ("region = \"eu\"\n", "", "region: the region is missing"),
    ("id = \"eu-1\"\n", "", "node.id: the node has no name"),
    ("advertise = [\"203.0.113.7\"]\n", "", "node.advertise: clients would not know"),
    ("key = \"0123456789abcdef0123456789abcdef\"\n", "", "keys: there is no API key"),
    (
        "secret = \"fedcba9876543210fedcba9876543210\"\n",
        "",
        "cluster.secret: there are peers and no cluster secret",
    ),
    ("ca = \"ca.pem\"\n", "", "cluster.ca: the cluster's certificates are incomplete"),
    ("key = \"eu-1.key\"\n", "", "cluster.key: the cluster's certificates are incomplete"),
    ("region = \"us\"\nbeat", "beat", "line 14: peers[0].region: the peer has no region"),
    ("id = \"us-1\"\n", "", "line 19: peers[1].id: the peer has no id"),
    (
        "address = \"us-1.example.net:7881\"\n",
        "",
        "line 19: peers[1].address: the peer has no address",
    ),
    // secrets
    (
        "key = \"0123456789abcdef0123456789abcdef\"",
        "key = \"\"",
        "line 5: keys.key: the secret is empty",
    ),
    (
        "key = \"0123456789abcdef0123456789abcdef\"",
        "key = \"short\"",
        "line 5: keys.key: the secret is shorter than 32",
    ),
    (
        "key = \"0123456789abcdef0123456789abcdef\"",
        "key = 5",
        "line 5: keys.key: the secret is no text",
    ),
    (
        "secret = \"fedcba9876543210fedcba9876543210\"",
        "secret = \"short\"",
        "line 7: cluster.secret: the secret is shorter",
    ),
    (
        "secret = \"fedcba9876543210fedcba9876543210\"",
        "secret_file = \"short\"",
        "line 7: cluster.secret_file: the secret is shorter",
    ),
    (
        "ca = \"ca.pem\"",
        "ca = \"ca.pem\"\nsecret_file = \"keys\"",
        "line 9: cluster.secret_file: cluster.secret and cluster.secret_file are both set",
    ),
    // files
    ("ca = \"ca.pem\"", "ca = \"nowhere.pem\"", "line 8: cluster.ca: "),
    ("ca = \"ca.pem\"", "ca = \"eu-1.key\"", "line 8: cluster.ca: "),
    ("cert = \"eu-1.pem\"", "cert = \"\"", "line 9: cluster.cert: this is empty"),
    ("roles =", "keys_file = \"nowhere\"\nroles =", "line 3: keys_file: "),
    (
        "roles =",
        "keys_file = \"bad-keys\"\nroles =",
        "line 3: keys_file: line 1 of the file is not",
    ),
    ("[node]", "[gateway]\npage_dir = \"nowhere\"\n[node]", "line 12: gateway.page_dir: "),
    ("[node]", "[gateway]\nstate_dir = \"nowhere\"\n[node]", "line 12: gateway.state_dir: "),
    (
        "[node]",
        "[gateway]\ntls_cert = \"ca.pem\"\n[node]",
        "line 12: gateway.tls_cert: gateway.tls_cert is set and",
    ),
    // addresses
    (
        "[\"203.0.113.7\"]",
        "[\"0.0.0.0\"]",
        "line 13: node.advertise: 0.0.0.0 stands for every address",
    ),
    (
        "[\"203.0.113.7\"]",
        "[\"127.0.0.1\"]",
        "line 13: node.advertise: 127.0.0.1 is a loopback address",
    ),
    ("[\"203.0.113.7\"]", "[\"::1\"]", "line 13: node.advertise: ::1 is a loopback address"),
    (
        "[\"203.0.113.7\"]",
        "[\"239.1.1.1\"]",
        "line 13: node.advertise: 239.1.1.1 is no address of one machine",
    ),
    (
        "[\"203.0.113.7\"]",
        "[\"2001:db8::7\"]\nbind = [\"0.0.0.0\"]",
        "line 13: node.advertise: 2001:db8::7 has no socket",
    ),
    // ports
    (
        "[node]",
        "[admin]\nlisten = \"0.0.0.0:7881\"\n[node]",
        "node.listen: 0.0.0.0:7881 is also the port of admin.listen",
    ),
    (
        "[node]",
        "[node]\nbeat = \"10.0.0.1:7890\"",
        "line 12: node.beat: 10.0.0.1:7890 is also the port of gateway.beat",
    ),
    (
        "[node]",
        "[node]\nmedia_ports = 7889",
        "line 12: node.media_ports: ports 7889 to 7890 include",
    ),
    (
        "[node]",
        "[node]\nmedia_ports = 65535",
        "line 12: node.media_ports: 2 shards from port 65535",
    ),
    // peers
    (
        "id = \"us-1\"\nregion = \"us\"",
        "id = \"us-1\"\nregion = \"uss\"",
        "line 22: peers[1].region: region \"uss\" is not among regions. Write \"us\"",
    ),
    (
        "region = \"eu\"\nregions = [\"eu\", \"us\"]",
        "region = \"mars\"\nregions = [\"eu\", \"us\"]",
        "line 1: region: region \"mars\" is not among regions",
    ),
    ("role = \"gateway\"", "role = \"gatway\"", "line 15: peers[0].role: \"gatway\" is not one of"),
    (
        "role = \"gateway\"\nid = \"us-gw\"",
        "role = \"node\"\nid = \"us-1\"\naddress = \"a:1\"",
        "line 22: peers[1].id: \"us-1\" is also the id of the peer in line 14",
    ),
    (
        "beat = \"us-1.example.net:7891\"",
        "beat = \"us.example.net:7890\"",
        "line 24: peers[1].beat: us.example.net:7890 is also that of the peer in line 14",
    ),
    (
        "role = \"gateway\"",
        "role = \"gateway\"\ncapacity = 9",
        "line 16: peers[0].capacity: a gateway has no capacity",
    ),
    ("id = \"us-1\"", "id = \"eu-1\"", "line 21: peers[1].id: \"eu-1\" is this process's own name"),
    // times
    (
        "[node]",
        "[signal]\nping_timeout_s = 1\n[node]",
        "line 12: signal.ping_timeout_s: 1 is not between 2 and 180",
    ),
    ("[node]", "[signal]\nping_interval_s = 5\n[node]", "signal.ping_timeout_s: 3 s is not longer"),
    ("[node]", "[debug]\npanic_hook = true\n[node]", "line 12: debug.panic_hook: other machines"),
    (
        "[node]",
        "[node]\nlease_s = 2",
        "line 12: node.lease_s: 2 s is not longer than the 2 s after which gateways take a node",
    ),
    ("[node]", "[node]\nlease_s = 61", "line 12: node.lease_s: 61 is not between 1 and 60"),
    ("[node]", "[node]\njoins_per_s = 0", "line 12: node.joins_per_s: 0 is not between 1 and"),
    ("[node]", "[node]\njoins_burst = 0", "line 12: node.joins_burst: 0 is not between 1 and"),
    // the directory
    (
        "roles =",
        "directory = \"redis://:password@db:6379\"\nroles =",
        "line 3: directory: a user or a password stands in the address. Put the password into",
    ),
    (
        "roles =",
        "directory = \"Embedded\"\nroles =",
        "line 3: directory: there is no such kind of directory. Write \"embedded\"",
    ),
    ("roles =", "directory = \"\"\nroles =", "line 3: directory: this is empty"),
    (
        "roles =",
        "directory = \"redis+sentinel://a,b,c\"\nroles =",
        "line 3: directory: the name that the Sentinels have for the primary is missing after a /",
    ),
    (
        "roles =",
        "directory = \"etcd://a,b:0\"\nroles =",
        "line 3: directory: server 2 of the list is not written as HOST, HOST:PORT or [IPV6]:PORT",
    ),
    (
        "roles =",
        "directory = \"eu=etcd://a us=etcd://a\"\nroles =",
        "line 3: directory: a server is named twice",
    ),
    (
        "[node]",
        "[directory_access]\npassword_file = \"short\"\n[node]",
        "line 12: directory_access.password_file: the embedded directory lets nobody in",
    ),
    (
        "[node]",
        "[directory_access]\nuser = \"me\"\n[node]",
        "line 12: directory_access.user: there is a user and no password",
    ),
];

#[test]
fn one_mistake_at_a_time() {
    let folder = Folder::new();
    assert!(folder.read(GOOD, &[]).is_ok(), "{:?}", folder.read(GOOD, &[]).err());
    one_at_a_time(&folder, GOOD, ROWS);
}

/// Makes each change alone: it is told as expected, and nothing else is.
fn one_at_a_time(folder: &Folder, good: &str, rows: &[(&str, &str, &str)]) {
    let mut surprises = Vec::new();
    for (from, to, expected) in rows {
        assert!(good.contains(from), "the row changes nothing: {from}");
        let mistakes = folder.read(&good.replacen(from, to, 1), &[]).err().unwrap_or_default();
        let found = mistakes.iter().any(|mistake| mistake.starts_with(expected));
        let alone = mistakes.len() == 1 || expected.contains("not TOML") || breaks_two(to);
        if !found || !alone {
            surprises.push((to, expected, mistakes));
        }
    }
    assert!(surprises.is_empty(), "{surprises:#?}");
}

/// A name server alone, among others' gateways.
const NAME_SERVER: &str = "region = \"eu\"
roles = [\"dns\"]
[cluster]
secret = \"fedcba9876543210fedcba9876543210\"
[dns]
zone = \"api.example.net\"
public = [\"203.0.113.53\"]
[[peers]]
role = \"gateway\"
id = \"us-gw\"
region = \"us\"
beat = \"us:7890\"
public = [\"198.51.100.7\"]
";

#[test]
fn a_name_server_needs_no_keys_and_no_certificates() {
    let settings = Folder::new().read(NAME_SERVER, &[]).expect("no mistake");
    let dns = settings.dns.expect("a name server");
    assert_eq!((dns.id.as_str(), dns.listen.len(), dns.ttl.as_secs()), ("dns-eu", 1, 5));
    assert!(settings.gateway.is_none() && settings.node.is_none() && settings.keys.is_empty());
}

#[test]
fn what_a_name_server_lacks_is_told() {
    let folder = Folder::new();
    folder.write("locations", "198.51.100.0/24 mars\n");
    let rows = [
        ("zone = \"api.example.net\"\n", "", "dns.zone: the name server has no zone"),
        ("api.example.net", "net", "line 6: dns.zone: \"net.\" is not below a domain"),
        ("api.example.net", "a b.net", "line 6: dns.zone: \"a b.net\" is no domain name"),
        ("public = [\"203.0.113.53\"]\n", "", "dns.public: resolvers would not find"),
        ("public = [\"198.51.100.7\"]\n", "", "line 8: peers[0].public: the peer has no public"),
        ("region = \"us\"", "region = \"dns-eu.ns\"", "line 6: dns.zone: the name dns-eu.ns.api."),
        (
            "[dns]\n",
            "[locate]\nfile = \"locations\"\n[dns]\n",
            "line 6: locate.file: line 1: region",
        ),
        ("[dns]\n", "[locate]\nmmdb = \"none\"\n[dns]\n", "line 6: locate.mmdb: "),
        (
            "[dns]\n",
            "[dns]\nlisten = [\"53\"]\n",
            "line 6: dns.listen: \"53\" is no address and port",
        ),
        (
            "[dns]\n",
            "[dns]\nlisten = [\"0.0.0.0:7892\"]\n",
            "line 6: dns.listen: 0.0.0.0:7892 is also",
        ),
        ("[dns]\n", "[dns]\nlisten = []\n", "line 6: dns.listen: the list is empty"),
        (
            "beat = \"us:7890\"",
            "beat = \"us:7890\"\nurl = \"us\"",
            "line 13: peers[0].url: \"us\" is no URL",
        ),
        (
            "fedcba9876543210fedcba9876543210",
            "short",
            "line 4: cluster.secret: the secret is shorter",
        ),
    ];
    one_at_a_time(&folder, NAME_SERVER, &rows);
    // Beside a gateway it hands out that one, too.
    let both = GOOD.replace("roles =", "roles = [\"gateway\", \"dns\"] #");
    let mistakes = folder.read(&both, &[]).expect_err("there are several");
    assert!(
        mistakes.iter().any(|mistake| mistake.starts_with("gateway.public: ")),
        "{mistakes:#?}"
    );
}

/// Rows whose one slip rightly breaks a second rule as well.
fn breaks_two(to: &str) -> bool {
    ["advertize", "gatway", "user = "].iter().any(|slip| to.contains(slip))
}

#[test]
fn all_mistakes_are_told_in_the_order_of_their_lines() {
    let folder = Folder::new();
    let text = GOOD
        .replace("region = \"eu\"", "regoin = \"eu\"")
        .replace("0123456789abcdef0123456789abcdef", "short")
        .replace("203.0.113.7", "127.0.0.1");
    let mistakes = folder.read(&text, &[]).expect_err("four mistakes");
    let starts = ["region: ", "line 1: regoin", "line 5: keys.key", "line 13: node.advertise"];
    assert_eq!(mistakes.len(), starts.len(), "{mistakes:#?}");
    for (mistake, start) in mistakes.iter().zip(starts) {
        assert!(mistake.starts_with(start), "{mistakes:#?}");
    }
    assert!(!mistakes.iter().any(|mistake| mistake.contains("short\"")), "a secret is shown");
    let text = GOOD.replace("roles =", "directory = \"etcd://me:hush@db:2379\"\nroles =");
    let mistakes = folder.read(&text, &[]).expect_err("no such directory");
    assert!(!mistakes[0].contains("hush"), "a secret is shown");
}

#[test]
fn flags_win_over_environment_over_file() {
    let folder = Folder::new();
    let flag = |value: &str| ("gateway.listen", At::Flag, value.to_owned());
    let variable = |value: &str| ("gateway.listen", At::Environment, value.to_owned());
    let listen = |overrides: &[Override]| {
        let settings = folder.read(GOOD, overrides).expect("no mistake");
        settings.gateway.expect("a gateway").listen.port()
    };
    assert_eq!(listen(&[]), 7880);
    assert_eq!(listen(&[variable("0.0.0.0:1")]), 1);
    assert_eq!(listen(&[variable("0.0.0.0:1"), flag("0.0.0.0:2")]), 2);
    let mistakes = folder.read(GOOD, &[flag("x")]).expect_err("a bad flag");
    assert!(mistakes[0].starts_with("flag: gateway.listen: "), "{mistakes:?}");
    let number = ("node.shards", At::Environment, "3".to_owned());
    let list = ("node.bind", At::Environment, "127.0.0.1, 0.0.0.0".to_owned());
    let node = folder.read(GOOD, &[number, list]).expect("no mistake").node.expect("a node");
    assert_eq!((node.shards, node.bind.len()), (3, 2));
}

#[test]
fn a_process_alone_on_loopback_needs_little() {
    let folder = Folder::new();
    let text = "region = \"here\"\n[keys]\ndevkey = \"secret\"\n[gateway]\nlisten = \"127.0.0.1:7880\"\n\
                [node]\nid = \"one\"\nlisten = \"127.0.0.1:7881\"\nadvertise = [\"127.0.0.1\"]\n";
    let settings = folder.read(text, &[]).expect("no mistake");
    assert!(settings.cluster.is_none() && settings.peers.is_empty());
    assert_eq!(settings.gateway.expect("a gateway").id, "gateway-here");
    assert_eq!(settings.node.expect("a node").shards, 2);
    let debug = format!("{text}[debug]\npanic_hook = true\n");
    assert!(folder.read(&debug, &[]).is_ok());
    let open = folder.read(&debug, &[("admin.listen", At::Flag, "0.0.0.0:7889".into())]);
    let open = open.expect_err("the directory could be wiped from elsewhere");
    assert!(open[0].contains("debug.panic_hook: other machines"), "{open:?}");
    let lonely = folder.read(text, &[("roles", At::Flag, "gateway".into())]).expect_err("no node");
    assert_eq!(
        lonely,
        [
            "peers: this gateway knows no node. Add a [[peers]] table for each node, or the role node."
        ]
    );
}

#[test]
fn a_process_may_stand_in_its_own_list_of_peers() {
    let folder = Folder::new();
    let own = "[[peers]]\nrole = \"node\"\nid = \"eu-1\"\nregion = \"eu\"\naddress = \"a:1\"\nbeat = \"a:2\"\n";
    let settings = folder.read(&format!("{GOOD}{own}"), &[]).expect("no mistake");
    let ids: Vec<_> = settings.peers.iter().map(|peer| peer.id.as_str()).collect();
    assert_eq!(ids, ["us-gw", "us-1"]);
}

#[test]
fn keys_come_from_table_and_file() {
    let folder = Folder::new();
    let text = GOOD.replace("roles =", "keys_file = \"keys\"\nroles =");
    let settings = folder.read(&text, &[]).expect("no mistake");
    assert_eq!(settings.keys.keys().collect::<Vec<_>>(), ["key", "other"]);
    assert!(!format!("{settings:?}").contains("0123456789"), "a secret is shown");
}

#[test]
fn the_documentation_names_every_key() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
    let text = |name: &str| fs::read_to_string(format!("{root}{name}")).expect(name);
    let (docs, example) = (text("docs/configuration.md"), text("deploy/outlast.example.toml"));
    for key in KEYS {
        let row = format!("| `{}` | `{}` |", key.path, key.variable());
        assert!(docs.contains(&row), "docs/configuration.md lacks {row}");
        let name = key.path.rsplit('.').next().unwrap_or_default();
        assert!(example.contains(&format!("{name} = ")), "the example lacks {}", key.path);
        if !key.default.is_empty() {
            let row = docs.lines().find(|line| line.starts_with(&row)).unwrap_or_default();
            assert!(row.contains(&format!("| `{}` |", key.default)), "{}: other default", key.path);
        }
    }
    for key in PEER_KEYS {
        assert!(docs.contains(&format!("| `{}` |", key.path)), "docs lack peers.{}", key.path);
    }
}

#[test]
fn the_example_lacks_nothing_but_its_files() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/outlast.example.toml");
    let folder = Folder::new();
    folder.write("eu-1.key", "-----BEGIN PRIVATE KEY-----");
    folder.write("cluster-secret", "fedcba9876543210fedcba9876543210");
    let text = fs::read_to_string(path).expect("the example");
    assert!(folder.read(&text, &[]).is_ok(), "{:#?}", folder.read(&text, &[]).err());
}

/// The variables of a file for systemd's `EnvironmentFile`.
fn variables(text: &str) -> Vec<Override> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let variable = |line: &str| {
        let (name, value) = line.split_once('=').expect("NAME=VALUE");
        let key = KEYS.iter().find(|key| key.variable() == name).expect("a key's variable");
        (key.path, At::Environment, value.trim_matches('"').to_owned())
    };
    lines.map(variable).collect()
}

#[test]
fn every_file_for_three_regions_is_without_mistakes() {
    let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy");
    let text = |name: &str| fs::read_to_string(format!("{deploy}/{name}")).expect(name);
    let folder = Folder::new();
    folder.write("cluster-secret", "fedcba9876543210fedcba9876543210");
    folder.write("keys", "ours: 0123456789abcdef0123456789abcdef\n");
    let regions = ["eu", "us", "ap"];
    let processes =
        regions.iter().flat_map(|region| ["gateway", "node", "dns"].map(|role| (role, region)));
    for process in processes {
        let name = format!("{}-{}", process.0, process.1);
        folder.write(&format!("{name}.pem"), "-----BEGIN CERTIFICATE-----");
        folder.write(&format!("{name}.key"), "-----BEGIN PRIVATE KEY-----");
        let settings = folder.read(&text(&format!("outlast/{name}.toml")), &[]).expect(&name);
        assert_eq!((settings.region.as_str(), settings.peers.len()), (*process.1, 8), "{name}");
    }
    let unit = text("outlast/outlast@.service");
    assert!(unit.contains("\nStateDirectory=outlast\n"), "gateways keep no snapshot: {unit}");
    for engine in ENGINES {
        let mut addresses = Vec::new();
        for region in regions {
            let (gateway, name) = (
                format!("outlast/gateway-{region}.toml"),
                format!("{engine}/directory-{region}.env"),
            );
            let settings = folder.read(&text(&gateway), &variables(&text(&name))).expect(&name);
            let address = settings.directory.to_string();
            // The nearest comes first, and all shards are told alike.
            let first = address.split("://").nth(1).and_then(|servers| servers.split(',').next());
            assert!(
                engine == "shards" || first.is_some_and(|host| host.contains(region)),
                "{name}: {address}"
            );
            addresses.push(address);
        }
        addresses.dedup();
        assert_eq!(addresses.len(), if engine == "shards" { 1 } else { 3 }, "{engine}");
    }
}
