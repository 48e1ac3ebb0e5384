/// Every key of the file: its name, its default, an example, whether SIGHUP applies it, and what it means. `docs/configuration.md` holds this as a table.
pub const KEYS: [Row; 40] = [
    row("data_dir", "\"/var/lib/doorward\"", "\"/srv/doorward\"", false, "Directory of the store. An absolute path, as all paths here."),
    row(
        "run_dir",
        "\"/run/doorward\"",
        "\"/run/door\"",
        false,
        "Directory of the sockets `verify.sock` and `admin.sock`, and of the counters (17 to 272 MiB in `counters`). At most 95 bytes. It belongs on a tmpfs.",
    ),
    row(
        "country_db",
        "none",
        "\"/usr/share/GeoIP/country.mmdb\"",
        true,
        "Country database, a MaxMind DB file with `country.iso_code` or `country_code`. SIGHUP also reads the same file anew.",
    ),
    row(
        "pepper_file",
        "`pepper` in `data_dir`",
        "\"/etc/doorward/pepper\"",
        false,
        "File of the pepper. A systemd credential named `pepper` wins over it.",
    ),
    row(
        "previous_pepper_file",
        "none",
        "\"/etc/doorward/pepper.old\"",
        false,
        "File of the pepper before this one, while secrets need it. A systemd credential named `previous_pepper` wins over it.",
    ),
    row("token_prefix", "\"dw\"", "\"live\"", false, "What new tokens begin with: 1 to 16 of `a-z 0-9 _`. Older tokens stay good."),
    row("strict", "true", "false", true, "Deny a function that is not registered, even where a wildcard would cover its name."),
    row("undelete_for", "\"30d\"", "\"90d\"", false, "How long a deleted key can be brought back."),
    row(
        "flush_interval",
        "\"1s\"",
        "\"5s\"",
        false,
        "How often usage is written to disk, `100ms` to `1m`. A power failure loses at most what was counted since the last time, SIGKILL nothing. Where very many keys are in use it is written less often.",
    ),
    row(
        "usage.keep_minutes",
        "\"48h\"",
        "\"7d\"",
        false,
        "How long usage is kept by minute, at least `2h`. What is older is there by hour.",
    ),
    row(
        "usage.keep_hours",
        "\"90d\"",
        "\"365d\"",
        false,
        "How long usage is kept by hour, at least `2d`, and never shorter than by minute. What is older is there by day.",
    ),
    row(
        "usage.keep_days",
        "\"1825d\"",
        "\"730d\"",
        false,
        "How long usage is kept by day, at least `2d`, and never shorter than by hour. What is older is removed, 32 days at a time.",
    ),
    row("log.level", "\"info\"", "\"debug\"", false, "Least severe messages that are logged: `error`, `warn`, `info`, `debug` or `trace`."),
    row("log.format", "\"auto\"", "\"plain\"", false, "`plain`, or `auto`: with colour on a terminal, plain elsewhere."),
    row("verify.mode", "\"0660\"", "\"0666\"", false, "File mode of `verify.sock`, octal, in quotes."),
    row("verify.group", "the daemon's own", "\"www-data\"", false, "Group of `verify.sock`: the web servers', by name or number."),
    row(
        "verify.users",
        "[]",
        "[\"www-data\"]",
        true,
        "Users who may ask, besides root and the daemon's own, by name or number, as the kernel tells who connects. Where none is named, all whom the mode lets in.",
    ),
    row("verify.max_connections", "1024", "200", false, "Most connections to `verify.sock` at a time, 1 to 16384."),
    row(
        "verify.spin_us",
        "0",
        "50",
        false,
        "Microseconds, 0 to 1000, that a thread that serves a connection, or many, looks for the next request before it sleeps. Saves the time of waking up, and costs a processor while it looks.",
    ),
    row(
        "verify.stuck_timeout",
        "\"10s\"",
        "\"30s\"",
        false,
        "How long a connection may be in the middle of a frame or of its handshake, or not take its answers, before it is cut: `1s` to `1h`.",
    ),
    row(
        "verify.idle_timeout",
        "none",
        "\"1h\"",
        false,
        "How long a connection may be idle before it is closed, `1s` to `365d`. Without it none is, unless another needs its place: see [limits](limits.md#connections).",
    ),
    row("admin.mode", "\"0660\"", "\"0600\"", false, "File mode of `admin.sock`, octal, in quotes."),
    row("admin.group", "the daemon's own", "\"adm\"", false, "Group of `admin.sock`, by name or number."),
    row("admin.full_users", "[]", "[\"deploy\"]", true, "Users, besides root, who may do everything on `admin.sock`, by name or number."),
    row("admin.full_groups", "[]", "[\"doorward-admin\"]", true, "Groups whose members may do everything on `admin.sock`."),
    row("admin.read_users", "[]", "[\"monitor\"]", true, "Users who may read on `admin.sock`."),
    row("admin.read_groups", "[]", "[\"adm\"]", true, "Groups whose members may read on `admin.sock`."),
    row(
        "advise.idle_after",
        "\"30d\"",
        "\"90d\"",
        true,
        "`advise` tells of a key that was not used for so long, or never since it was made, imported or became valid so long ago; at least `1d`.",
    ),
    row("advise.rotate_after", "\"365d\"", "\"90d\"", true, "`advise` tells of a secret in use that is so old, at least `1d`."),
    row("advise.expiring_within", "\"30d\"", "\"7d\"", true, "`advise` tells of a key that expires so soon, at least `1d`."),
    row("unusual.history_days", "28", "14", true, "Days before the time in question that `unusual` compares it with, 7 to 60."),
    row("unusual.min_days", "7", "14", true, "Days of use below which `unusual` compares nothing, 2 to 60."),
    row("unusual.deviations", "5", "8", true, "How many deviations from the median a rate must be away, 2 to 100."),
    row("unusual.factor", "3", "5", true, "How many times as much, or as little, a rate must be, 2 to 1000."),
    row("unusual.min_count", "20", "100", true, "Requests, in an hour or a day, below which a surge or a drop is none; at least 1."),
    row("unusual.dormant_after", "\"30d\"", "\"90d\"", true, "A key that was not used for so long is dormant, at least `1d`."),
    row("unusual.networks_at_once", "8", "12", true, "Networks within ten minutes from which on one key has many, 2 to 64."),
    row("unusual.guesses", "100", "1000", true, "Unknown and malformed tokens from one network in an hour that are guessing; at least 1."),
    row(
        "metrics.listen",
        "none",
        "\"127.0.0.1:9464\"",
        false,
        "Address and port where `/metrics` is served over TCP, too, to whoever reaches it: see [monitoring](monitoring.md). A loopback address.",
    ),
    row("metrics.beyond_loopback", "false", "true", false, "Whether `metrics.listen` may be any address."),
];

/// A key of the configuration file.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its name; `a.b` is `b` in the section `[a]`.
    pub key: &'static str,
    /// What holds without it: a TOML value, or words.
    pub default: &'static str,
    /// A value other than the default.
    pub example: &'static str,
    /// Whether SIGHUP applies a new value; if not, a restart does.
    pub reloadable: bool,
    /// What it means.
    pub meaning: &'static str,
}

const fn row(key: &'static str, default: &'static str, example: &'static str, reloadable: bool, meaning: &'static str) -> Row {
    Row { key, default, example, reloadable, meaning }
}
