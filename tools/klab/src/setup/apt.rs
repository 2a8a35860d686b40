//! A private apt configuration: the machine's own mirror, other suites, own lists.
//!
//! Nothing of it is seen by the machine's own apt.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::machine::os_release;
use crate::cache::{Cache, make, write_if_changed};
use crate::exec::{Step, capture, read_optional, text_of};
use crate::fail::{Failure, Kind};
use crate::signals::Scratch;
use crate::ui::Ui;

/// Suites that are looked at, in this order.
pub const SUITES: [&str; 2] = ["trixie-backports", "sid"];

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One entry of the machine's configuration: where its Debian archive is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    pub uri: String,
    pub suite: String,
    /// What `Signed-By` says: a path, or a whole key over several lines.
    pub signed_by: Option<String>,
    pub trusted: bool,
}

/// The first entry for the release this machine runs.
pub fn mirror_of_machine(etc: &Path) -> Result<Mirror> {
    let release = read_optional(Path::new("/etc/os-release"))?.unwrap_or_default();
    let codename = os_release(&release, "VERSION_CODENAME")
        .unwrap_or("sid")
        .to_owned();
    for file in source_files(etc)? {
        let text = read_optional(&file)?.unwrap_or_default();
        let found = if file.extension().is_some_and(|ext| ext == "sources") {
            from_deb822(&text, &codename)
        } else {
            from_lines(&text, &codename)
        };
        if let Some(mirror) = found {
            return Ok(mirror);
        }
    }
    Err(Failure::new(
        Kind::Requirement,
        format!(
            "{} does not name a Debian archive for {codename}",
            etc.join("sources.list").display()
        ),
    )
    .hint(format!(
        "echo 'deb http://YOUR-MIRROR/debian {codename} main' >> {}",
        etc.join("sources.list").display()
    ))
    .into())
}

/// Says at once that there is no network: apt-get would take minutes, and many lines.
pub fn require_archive(mirror: &Mirror) -> Result<()> {
    // Others need no network, or are apt's own affair.
    if !mirror.uri.starts_with("http:") && !mirror.uri.starts_with("https:") {
        return Ok(());
    }
    let scratch = Scratch::folder()?;
    let uri = mirror.uri.trim_end_matches('/');
    let mut command = Command::new("timeout");
    // With apt's own settings of proxies and certificates.
    command
        .args(["20", "/usr/lib/apt/apt-helper", "-o", "Acquire::Retries=0"])
        .args(["-o", "Acquire::http::Timeout=5"])
        .args(["-o", "Acquire::https::Timeout=5"])
        .arg("download-file")
        .arg(format!("{uri}/dists/{}/InRelease", mirror.suite))
        .arg(scratch.path().join("InRelease"));
    if capture(&mut command, None)?.status.success() {
        return Ok(());
    }
    Err(Failure::new(
        Kind::Requirement,
        format!("the package archive {uri} cannot be reached"),
    )
    .hint("check the network, then continue with: cargo klab setup")
    .into())
}

fn source_files(etc: &Path) -> Result<Vec<PathBuf>> {
    let mut files = vec![etc.join("sources.list")];
    let parts = etc.join("sources.list.d");
    if parts.is_dir() {
        let mut more = Vec::new();
        for entry in std::fs::read_dir(&parts)? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|ext| ext == "list" || ext == "sources")
            {
                more.push(path);
            }
        }
        more.sort();
        files.extend(more);
    }
    Ok(files)
}

fn wanted(types: &str, suites: &str, components: &str, codename: &str) -> bool {
    let has = |text: &str, word: &str| text.split_whitespace().any(|part| part == word);
    has(types, "deb")
        && has(components, "main")
        && suites.split_whitespace().any(|suite| {
            suite == codename || ["stable", "oldstable", "testing", "unstable"].contains(&suite)
        })
}

/// The one-entry-a-paragraph form.
fn from_deb822(text: &str, codename: &str) -> Option<Mirror> {
    let uncommented: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for paragraph in uncommented.split(|line| line.trim().is_empty()) {
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in paragraph {
            if line.starts_with([' ', '\t']) {
                if let Some((_, value)) = fields.last_mut() {
                    value.push('\n');
                    value.push_str(line);
                }
            } else if let Some((name, value)) = line.split_once(':') {
                fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        let field = |name: &str| {
            fields
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.as_str())
        };
        let on = |name: &str, unset| {
            field(name).map_or(unset, |value| ["yes", "true", "1"].contains(&value))
        };
        let uri = field("uris").and_then(|uris| uris.split_whitespace().next());
        let listed = wanted(
            field("types").unwrap_or_default(),
            field("suites").unwrap_or_default(),
            field("components").unwrap_or_default(),
            codename,
        );
        if let Some(uri) = uri.filter(|_| listed && on("enabled", true)) {
            return Some(Mirror {
                uri: uri.to_owned(),
                suite: codename.to_owned(),
                signed_by: field("signed-by").map(str::to_owned),
                trusted: on("trusted", false),
            });
        }
    }
    None
}

/// The classic form, `deb [options] URI suite components`.
fn from_lines(text: &str, codename: &str) -> Option<Mirror> {
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(rest) = line
            .strip_prefix("deb")
            .filter(|r| r.starts_with([' ', '\t', '[']))
        else {
            continue;
        };
        let rest = rest.trim_start();
        let (options, rest) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((options, rest)) => (options, rest.trim_start()),
            None => ("", rest),
        };
        let mut words = rest.split_whitespace();
        let (Some(uri), Some(suite)) = (words.next(), words.next()) else {
            continue;
        };
        let components: Vec<&str> = words.collect();
        if !wanted("deb", suite, &components.join(" "), codename) {
            continue;
        }
        let option = |name: &str| {
            options
                .split_whitespace()
                .find_map(|o| o.strip_prefix(name)?.strip_prefix('='))
        };
        return Some(Mirror {
            uri: uri.to_owned(),
            suite: codename.to_owned(),
            signed_by: option("signed-by").map(str::to_owned),
            trusted: option("trusted") == Some("yes"),
        });
    }
    None
}

/// The private source list.
fn source_list(mirror: &Mirror, suites: &[&str]) -> String {
    let mut text = format!(
        "Types: deb\nURIs: {}\nSuites: {}\nComponents: main\n",
        mirror.uri,
        suites.join(" ")
    );
    let signed_by = mirror.signed_by.as_deref().unwrap_or(KEYRING);
    text.push_str(&format!("Signed-By: {signed_by}\n"));
    if mirror.trusted {
        text.push_str("Trusted: yes\n");
    }
    text
}

/// Apt with lists of its own.
pub struct Apt {
    folder: PathBuf,
    downloads: PathBuf,
    log: PathBuf,
    mirror: Mirror,
}

impl Apt {
    pub fn new(cache: &Cache) -> Result<Self> {
        Ok(Self {
            folder: cache.apt(),
            downloads: cache.downloads(),
            log: cache.log("apt"),
            mirror: mirror_of_machine(Path::new("/etc/apt"))?,
        })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("APT_CONFIG", self.folder.join("apt.conf"))
            .env("LC_ALL", "C.UTF-8");
        command
    }

    fn no_network(&self) -> String {
        format!(
            "check whether {} can be reached from here, then continue with: cargo klab setup",
            self.mirror.uri
        )
    }

    /// Fetches the lists of packages of these suites.
    fn update(&self, ui: &Ui, suites: &[&str]) -> Result<()> {
        for part in ["lists/partial", "cache/archives/partial"] {
            make(&self.folder.join(part))?;
        }
        let folder = self.folder.display();
        let config = format!(
            "Dir::State::lists \"{folder}/lists\";\n\
             Dir::Cache \"{folder}/cache\";\n\
             Dir::Etc::sourcelist \"{folder}/klab.sources\";\n\
             Dir::Etc::sourceparts \"-\";\n\
             Dir::Etc::preferences \"/dev/null\";\n\
             Dir::Etc::preferencesparts \"/dev/null\";\n\
             APT::Sandbox::User \"root\";\n\
             APT::Update::Error-Mode \"any\";\n\
             Acquire::Languages \"none\";\n\
             Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n\
             Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled \"false\";\n\
             Acquire::Retries \"2\";\n"
        );
        write_if_changed(&self.folder.join("apt.conf"), config.as_bytes())?;
        let list = source_list(&self.mirror, suites);
        write_if_changed(&self.folder.join("klab.sources"), list.as_bytes())?;
        let mut command = self.command("apt-get");
        command.arg("update");
        Step::new(
            format!("fetching the package list of {}", suites.join(" and ")),
            self.log.clone(),
            Kind::Requirement,
        )
        .hint(self.no_network())
        .run(ui, command)?;
        Ok(())
    }

    /// The versions of a package, best first.
    fn versions(&self, package: &str) -> Result<Vec<String>> {
        let text = text_of(self.command("apt-cache").args(["madison", package]))?;
        Ok(versions_in(&text))
    }

    /// Downloads a package of which `accept` takes a version; keeps what is there already.
    pub fn download(
        &self,
        ui: &Ui,
        package: &str,
        accept: impl Fn(&str) -> bool,
    ) -> Result<Option<PathBuf>> {
        if let Some(file) = self.downloaded(package, &accept)? {
            return Ok(Some(file));
        }
        for count in 1..=SUITES.len() {
            self.update(ui, &SUITES[..count])?;
            let Some(version) = self.versions(package)?.into_iter().find(|v| accept(v)) else {
                continue;
            };
            make(&self.downloads)?;
            let scratch =
                crate::signals::Scratch::new(self.downloads.join(format!(".get-{package}")));
            if scratch.path().exists() {
                std::fs::remove_dir_all(scratch.path())?;
            }
            make(scratch.path())?;
            let mut command = self.command("apt-get");
            command.args(["download", &format!("{package}={version}")]);
            command.current_dir(scratch.path());
            Step::new(
                format!("downloading {package} {version}"),
                self.log.clone(),
                Kind::Requirement,
            )
            .hint(self.no_network())
            .run(ui, command)?;
            for entry in std::fs::read_dir(scratch.path())? {
                let entry = entry?;
                std::fs::rename(entry.path(), self.downloads.join(entry.file_name()))?;
            }
            return self.downloaded(package, &accept);
        }
        Ok(None)
    }

    fn downloaded(&self, package: &str, accept: impl Fn(&str) -> bool) -> Result<Option<PathBuf>> {
        if !self.downloads.is_dir() {
            return Ok(None);
        }
        for entry in std::fs::read_dir(&self.downloads)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let version = name
                .strip_suffix(".deb")
                .and_then(|name| name.strip_prefix(package)?.strip_prefix('_'))
                .and_then(|rest| rest.split('_').next())
                .map(|version| version.replace("%3a", ":"));
            if version.is_some_and(|version| accept(&version)) {
                return Ok(Some(entry.path()));
            }
        }
        Ok(None)
    }
}

fn versions_in(madison: &str) -> Vec<String> {
    madison
        .lines()
        .filter_map(|line| line.split('|').nth(1))
        .map(|version| version.trim().to_owned())
        .collect()
}

/// Whether some version of a package has been downloaded before.
pub fn is_downloaded(cache: &Cache, package: &str) -> Result<bool> {
    let start = format!("{package}_");
    if !cache.downloads().is_dir() {
        return Ok(false);
    }
    for entry in std::fs::read_dir(cache.downloads())? {
        if entry?.file_name().to_string_lossy().starts_with(&start) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Installs packages for the whole machine, with its own configuration.
pub fn install(cache: &Cache, ui: &Ui, packages: &[&'static str]) -> Result<()> {
    let offline = "check whether the machine's package archive can be reached, and what apt-get says; \
                   then run this again";
    let mut command = Command::new("apt-get");
    command
        .args(["update", "-o", "Acquire::Retries=2"])
        .env("LC_ALL", "C.UTF-8");
    // An unreachable third-party archive must not stop what does not come from it; if what we
    // need cannot be had, the installation says so.
    if let Err(error) = Step::new(
        "updating the machine's package list",
        cache.log("apt-update"),
        Kind::Requirement,
    )
    .protected()
    .run(ui, command)
    {
        ui.say(format!("continuing with the old package list: {error}"));
    }
    let mut command = Command::new("dpkg");
    command
        .args(["--configure", "-a"])
        .env("DEBIAN_FRONTEND", "noninteractive");
    Step::new(
        "finishing earlier installations",
        cache.log("dpkg"),
        Kind::Requirement,
    )
    .protected()
    .run(ui, command)?;
    let mut command = Command::new("apt-get");
    command
        .args([
            "install",
            "-y",
            "--no-install-recommends",
            // What the machine has stays.
            "--no-remove",
            "-o",
            "DPkg::Lock::Timeout=300",
        ])
        .args(["-o", "Dpkg::Use-Pty=0"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C.UTF-8");
    Step::new(
        format!("installing {} packages", packages.len()),
        cache.log("apt-install"),
        Kind::Requirement,
    )
    .hint(offline)
    .protected()
    .run(ui, command)?;
    let still = super::machine::missing_packages(packages)?;
    anyhow::ensure!(
        still.is_empty(),
        "apt-get installed everything but {}",
        still.join(" ")
    );
    Ok(())
}

/// Unpacks a package into a folder.
pub fn unpack(file: &Path, folder: &Path) -> Result<()> {
    make(folder)?;
    text_of(
        Command::new("dpkg-deb")
            .arg("--extract")
            .arg(file)
            .arg(folder),
    )
    .with_context(|| format!("cannot unpack {}", file.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_form_of_sources_is_read() {
        let text = "# comment\nTypes: deb\nURIs: http://sec.example/debian-security\n\
            Suites: bookworm-security\nComponents: main\n\n\
            Types: deb deb-src\n# another\nURIs: http://mirror.example/debian\n\
            Suites: bookworm bookworm-updates\nComponents: main contrib\n\
            Signed-By: /usr/share/keyrings/some.gpg\n";
        let mirror = from_deb822(text, "bookworm").unwrap();
        assert_eq!(mirror.uri, "http://mirror.example/debian");
        assert_eq!(
            mirror.signed_by.as_deref(),
            Some("/usr/share/keyrings/some.gpg")
        );
        assert!(from_deb822(text, "trixie").is_none());
        let off = text.replace("Components: main contrib", "Components: main\nEnabled: no");
        assert!(from_deb822(&off, "bookworm").is_none());
    }

    #[test]
    fn an_embedded_key_is_kept_whole() {
        let text = "Types: deb\nURIs: http://m\nSuites: bookworm\nComponents: main\n\
            Signed-By:\n -----BEGIN\n .\n abc\n -----END\n";
        let mirror = from_deb822(text, "bookworm").unwrap();
        let list = source_list(&mirror, &["sid"]);
        assert!(
            list.contains("Signed-By: \n -----BEGIN\n .\n abc\n -----END\n"),
            "{list}"
        );
    }

    #[test]
    fn the_classic_form_of_sources_is_read() {
        let text = "#deb http://off bookworm main\n\
            deb-src http://src bookworm main\n\
            deb http://sec bookworm-security main\n\
            deb [arch=amd64 signed-by=/k.gpg trusted=yes] http://m/debian bookworm main # x\n";
        let mirror = from_lines(text, "bookworm").unwrap();
        assert_eq!(mirror.uri, "http://m/debian");
        assert_eq!(mirror.signed_by.as_deref(), Some("/k.gpg"));
        assert!(mirror.trusted);
        assert!(from_lines(text, "sid").is_none());
    }

    #[test]
    fn the_private_list_names_other_suites_only() {
        let mirror = Mirror {
            uri: "http://m".into(),
            suite: "bookworm".into(),
            signed_by: None,
            trusted: false,
        };
        let list = source_list(&mirror, &SUITES[..1]);
        assert!(list.contains("Suites: trixie-backports\n"));
        assert!(list.contains(KEYRING) && !list.contains("Trusted"));
    }

    #[test]
    fn versions_are_read_in_order() {
        let text =
            " rust-src | 1.95.0+dfsg1-2 | http://m sid/main\n rust-src | 1.85.1 | http://m\n";
        assert_eq!(versions_in(text), ["1.95.0+dfsg1-2", "1.85.1"]);
    }
}
