//! What must hold for the series: its form, and that nothing is lost on the way to git and back.

use std::collections::{BTreeMap, HashSet};

use anyhow::Result;
use serde::Serialize;

use super::apply::apply;
use super::import::{Options, import};
use super::store::{Mails, Store};
use crate::exec::read_optional;
use crate::git::Git;
use crate::signals::Scratch;

#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub mails: usize,
    pub new_files: usize,
    /// The tree the whole series makes, if it applies.
    pub tree: Option<String>,
    pub problems: Vec<String>,
}

/// Checks the series against the base it is made for.
pub fn check(store: &Store, git: &Git, base: &str) -> Result<Report> {
    let mails = store.mails()?;
    let mut report = Report {
        mails: mails.len(),
        problems: form(store, &mails, &git.paths(base)?)?,
        ..Report::default()
    };
    report.new_files = mails.iter().map(|(_, mail)| mail.new_files.len()).sum();
    let release = super::import::release(git, base)?;
    if store.base()? != release {
        report.problems.push(format!(
            "patches/base says {}, not {release}",
            store.base()?
        ));
    }
    if report.problems.is_empty() {
        round_trip(store, git, base, &mut report)?;
    }
    Ok(report)
}

/// The rules each mail and each new file follows.
fn form(store: &Store, mails: &Mails, in_base: &HashSet<String>) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut named: BTreeMap<&str, &str> = BTreeMap::new();
    let files = store.new_files()?;
    for (number, (name, mail)) in mails.iter().enumerate() {
        if *name != mail.file_name(number + 1) {
            problems.push(format!(
                "{name}: its name should be {}",
                mail.file_name(number + 1)
            ));
        }
        if mail
            .diff
            .split(|byte| *byte == b'\n')
            .any(|line| line.starts_with(b"new file mode"))
        {
            problems.push(format!(
                "{name}: adds a file in its diff, not as a source file"
            ));
        }
        if let Err(error) = mail.check_message() {
            problems.push(format!("{name}: {error}"));
        }
        match mail.changed_files() {
            Ok(paths) => {
                for path in paths.iter().filter(|path| !in_base.contains(*path)) {
                    problems.push(format!(
                        "{name}: changes {path}, which the base does not have"
                    ));
                }
            }
            Err(error) => problems.push(format!("{name}: {error}")),
        }
        for path in &mail.new_files {
            if in_base.contains(path) {
                problems.push(format!("{name}: adds {path}, which the base has"));
            }
            if let Some(first) = named.insert(path, name) {
                problems.push(format!("{path}: added by {first} and by {name}"));
            }
            if !files.contains_key(path) {
                problems.push(format!(
                    "{name}: adds {path}, but that source file does not exist"
                ));
            }
        }
    }
    for (path, places) in &files {
        if !named.contains_key(path.as_str()) {
            problems.push(format!("{}: no mail names it", places[0].display()));
        }
        if places.len() > 1 {
            problems.push(format!("{path}: is in more than one folder"));
        }
    }
    let listed: HashSet<&str> = mails.iter().map(|(name, _)| name.as_str()).collect();
    for entry in std::fs::read_dir(store.patches())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".patch") && !listed.contains(name.as_str()) {
            problems.push(format!("{name}: not listed in patches/series"));
        }
    }
    if let Some(text) = read_optional(&store.patches().join("cover.md"))? {
        problems.extend(cover(&text, mails.len()));
    }
    Ok(problems)
}

/// What is wrong with how the cover letter counts: an item that begins with a number or a range in
/// bold is about these mails, and together they are about all, in order.
fn cover(text: &str, mails: usize) -> Option<String> {
    let mut next = 1;
    for line in text.lines() {
        let bold = line.strip_prefix("- **");
        let Some((range, _)) = bold.and_then(|rest| rest.split_once("**")) else {
            continue;
        };
        if !range.starts_with(|c: char| c.is_ascii_digit()) {
            continue;
        }
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.parse::<usize>(), last.parse::<usize>()) {
            (Ok(first), Ok(last)) if first == next && first <= last => next = last + 1,
            _ => return Some(format!("cover.md: {range} comes where mail {next} should")),
        }
    }
    let told = next - 1;
    (told != mails).then(|| format!("cover.md: describes {told} mails, and there are {mails}"))
}

/// Applies, imports into an empty project, applies that, and compares.
fn round_trip(store: &Store, git: &Git, base: &str, report: &mut Report) -> Result<()> {
    let first = match apply(store, git, base) {
        Ok(first) => first,
        Err(error) => {
            report.problems.push(format!("{error:#}"));
            return Ok(());
        }
    };
    let Some(last) = first.last() else {
        report.tree = Some(git.tree(base)?);
        return Ok(());
    };
    report.tree = Some(last.tree.clone());
    let folder = Scratch::folder()?;
    let copy = Store::at(folder.path());
    let options = Options {
        base,
        head: &last.commit,
        sender: None,
        fold: false,
    };
    import(&copy, git, &options)?;
    let second = apply(&copy, git, base)?;
    let end = second.last().map_or(base, |applied| &applied.commit);
    if git.tree(end)? != last.tree {
        report
            .problems
            .push("importing the applied series gives a different tree".into());
    }
    // An all-equal line of range-diff reads `1:  abc = 1:  def subject`.
    let ranges = [format!("{base}..{}", last.commit), format!("{base}..{end}")];
    let compared = git.text(["range-diff", "--no-color", "-s", &ranges[0], &ranges[1]])?;
    for line in compared.lines() {
        if line.split_whitespace().nth(2) != Some("=") {
            report
                .problems
                .push(format!("range-diff after importing again: {line}"));
        }
    }
    if compared.lines().count() != first.len() {
        report
            .problems
            .push("range-diff did not compare every mail".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cache::{Cache, write_if_changed};
    use crate::series::format::format;
    use crate::series::tree::{Base, ensure, existing};
    use crate::ui::Ui;

    /// A kernel in small, with a series on top of it, and a project to import it into.
    struct Bench {
        _folder: tempfile::TempDir,
        git: Git,
        store: Store,
        cache: Cache,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let kernel = folder.path().join("kernel");
            std::fs::create_dir(&kernel).unwrap();
            let git = Git::at(&kernel)
                .with_env("GIT_CONFIG_GLOBAL", "/dev/null")
                .with_env("GIT_AUTHOR_NAME", "A")
                .with_env("GIT_AUTHOR_EMAIL", "a@b")
                .with_env("GIT_COMMITTER_NAME", "C")
                .with_env("GIT_COMMITTER_EMAIL", "c@d");
            git.text(["init", "-q", "-b", "master"]).unwrap();
            let bench = Self {
                store: Store::at(folder.path().join("project")),
                cache: Cache::at(folder.path().join("cache")),
                git,
                _folder: folder,
            };
            bench.commit(
                "base",
                &[
                    ("Makefile", "VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\n"),
                    ("fs/Makefile", "obj-y := a.o\n"),
                    ("fs/a.c", "int a;\n"),
                ],
            );
            bench.git.text(["tag", "base"]).unwrap();
            bench.commit(
                "fs: add a thing\n\nBecause it is missing.",
                &[
                    ("fs/Makefile", "obj-y := a.o layout.o\n"),
                    ("fs/layout.c", "int l;\n"),
                ],
            );
            bench.commit(
                "block: add another",
                &[("block/f.c", "int f;\n"), ("fs/a.c", "int b;\n")],
            );
            bench
        }

        fn commit(&self, message: &str, files: &[(&str, &str)]) {
            for (name, text) in files {
                write_if_changed(&self.git.folder().join(name), text.as_bytes()).unwrap();
            }
            self.git.text(["add", "-A"]).unwrap();
            self.git.text(["commit", "-q", "-m", message]).unwrap();
        }

        fn import(&self, fold: bool) -> Result<super::super::import::Imported> {
            let options = Options {
                base: "base",
                head: "HEAD",
                sender: Some("S <s@t>"),
                fold,
            };
            import(&self.store, &self.git, &options)
        }

        fn problems(&self) -> Vec<String> {
            let base = self.git.commit("base").unwrap();
            check(&self.store, &self.git, &base).unwrap().problems
        }

        fn write(&self, name: &str, text: &str) {
            write_if_changed(&self.store.root().join(name), text.as_bytes()).unwrap();
        }

        fn base(&self) -> Base {
            Base {
                repository: self.git.folder().to_owned(),
                commit: self.git.commit("base").unwrap(),
                name: "series".into(),
            }
        }
    }

    fn modified(path: &Path) -> std::time::SystemTime {
        path.metadata().unwrap().modified().unwrap()
    }

    #[test]
    fn importing_twice_changes_nothing_and_checks() {
        let bench = Bench::new();
        let imported = bench.import(false).unwrap();
        assert_eq!((imported.mails, imported.new_files), (2, 2));
        assert!(
            bench
                .store
                .root()
                .join("fs-hooks/linux/fs/layout.c")
                .is_file()
        );
        assert!(
            bench
                .store
                .root()
                .join("rust-blksnap/linux/block/f.c")
                .is_file()
        );
        let mail = bench.store.patches().join("0001-fs-add-a-thing.patch");
        let before = modified(&mail);
        bench.import(false).unwrap();
        assert_eq!(modified(&mail), before);
        assert!(bench.problems().is_empty(), "{:?}", bench.problems());
        let base = bench.git.commit("base").unwrap();
        let report = check(&bench.store, &bench.git, &base).unwrap();
        assert_eq!(report.tree, Some(bench.git.tree("HEAD").unwrap()));
    }

    #[test]
    fn mails_of_an_earlier_run_are_replaced_and_others_are_kept() {
        let bench = Bench::new();
        bench.import(false).unwrap();
        let folder = bench.store.root().join("outgoing");
        let write = || format(&bench.store, &bench.base(), &folder);
        let names = || {
            let mut names: Vec<String> = std::fs::read_dir(&folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(write().unwrap(), 2);
        let mails = names();
        let stale = folder.join("0003-fs-a-mail-that-was-dropped.patch");
        std::fs::copy(folder.join(&mails[0]), &stale).unwrap();
        std::fs::write(folder.join("notes.txt"), "mine").unwrap();
        write().unwrap();
        assert_eq!(names(), [mails[0].as_str(), &mails[1], "notes.txt"]);
        // The project's own mails look alike, but are no copies.
        let theirs = folder.join("0001-mine.patch");
        std::fs::write(&theirs, "From: A <a@b>\n").unwrap();
        let before = names();
        assert_eq!(crate::fail::status_of(&write().unwrap_err()), 2);
        assert_eq!(names(), before);
        let patches = bench.store.patches();
        assert!(format(&bench.store, &bench.base(), &patches).is_err());
        assert_eq!(bench.store.mails().unwrap().len(), 2);
    }

    #[test]
    fn what_cannot_be_imported_is_a_usage_error() {
        let bench = Bench::new();
        let told = |folder: &Path| {
            let error = super::super::import::source(folder).unwrap_err();
            assert_eq!(crate::fail::status_of(&error), 2);
            error.to_string()
        };
        let gone = bench.store.root().join("gone");
        assert!(told(&gone).contains("gone"));
        std::fs::create_dir_all(&gone).unwrap();
        assert!(told(&gone).contains("not a git"));
        let options = Options {
            base: "nosuch",
            head: "HEAD",
            sender: None,
            fold: false,
        };
        let error = import(&bench.store, &bench.git, &options).unwrap_err();
        assert_eq!(crate::fail::status_of(&error), 2);
        assert!(error.to_string().contains("`nosuch`"), "{error}");
    }

    #[test]
    fn asking_for_the_tree_makes_none() {
        let bench = Bench::new();
        bench.import(false).unwrap();
        let cache = &bench.cache;
        for kdir in [None, Some(bench.git.folder())] {
            let error = existing(cache, kdir).unwrap_err();
            assert_eq!(crate::fail::status_of(&error), 2);
        }
        assert!(!cache.root().exists());
        let tree = ensure(cache, &bench.store, &bench.base(), &Ui::new()).unwrap();
        assert_eq!(existing(cache, None).unwrap(), (tree.folder, tree.commit));
    }

    #[test]
    fn a_folder_that_is_no_kernel_is_not_to_be_put_into_git() {
        let folder = tempfile::tempdir().unwrap();
        let told = || Base::own(folder.path()).err().unwrap().to_string();
        assert!(!told().contains("git init") && told().contains("kernel source"));
        std::fs::write(folder.path().join("Kconfig"), "").unwrap();
        let place = folder.path().display();
        assert!(told().contains(&format!("git -C {place} init && git -C {place} add -A")));
    }

    #[test]
    fn the_cover_letter_tells_of_every_mail_once() {
        let says = |items: &str| cover(items, 4);
        assert_eq!(says("- **1-3** fix.\n  Among (2).\n- **4** adds.\n"), None);
        assert_eq!(says("- **note** well.\n- **1-4** fix.\n"), None);
        let problem = |text: &str| Some(text.to_owned());
        assert_eq!(
            says("- **1-3** fix.\n"),
            problem("cover.md: describes 3 mails, and there are 4")
        );
        assert_eq!(
            says("- **1-2** fix.\n- **4** adds.\n"),
            problem("cover.md: 4 comes where mail 3 should")
        );
        assert_eq!(
            says("* **1-4** fix.\n"),
            problem("cover.md: describes 0 mails, and there are 4")
        );
    }

    #[test]
    fn what_is_wrong_with_the_form_is_found() {
        let bench = Bench::new();
        bench.import(false).unwrap();
        bench.write("fs-hooks/linux/fs/stray.c", "int s;\n");
        assert_eq!(bench.problems().len(), 1);
        std::fs::remove_file(bench.store.root().join("fs-hooks/linux/fs/stray.c")).unwrap();
        let mail = bench.store.patches().join("0002-block-add-another.patch");
        let good = std::fs::read_to_string(&mail).unwrap();
        for bad in [
            good.replace("X-New-File: block/f.c\n", ""),
            good.replace("block/f.c", "block/g.c"),
            good.replace("block/f.c", "fs/layout.c"),
            good.replace("index ", "new file mode 100644\nindex "),
            good.replace("-int a;", "-int other;"),
        ] {
            assert_ne!(bad, good);
            std::fs::write(&mail, bad).unwrap();
            assert!(!bench.problems().is_empty());
        }
        std::fs::write(&mail, good).unwrap();
        bench.write("patches/0009-left-over.patch", "x");
        assert_eq!(
            bench.problems(),
            ["0009-left-over.patch: not listed in patches/series"]
        );
    }

    #[test]
    fn a_new_file_that_is_changed_later_is_refused_or_folded() {
        let bench = Bench::new();
        bench.commit("fs: later", &[("fs/layout.c", "int later;\n")]);
        let error = bench.import(false).unwrap_err();
        assert!(error.to_string().contains("is added whole"), "{error}");
        assert_eq!(bench.import(true).unwrap().mails, 3);
        assert!(bench.problems().is_empty(), "{:?}", bench.problems());
    }

    #[test]
    fn what_a_new_series_no_longer_has_goes() {
        let bench = Bench::new();
        bench.import(false).unwrap();
        bench.git.text(["reset", "-q", "--hard", "HEAD~"]).unwrap();
        bench.import(false).unwrap();
        assert!(!bench.store.root().join("rust-blksnap").exists());
        assert_eq!(bench.store.names().unwrap(), ["0001-fs-add-a-thing.patch"]);
        assert!(bench.problems().is_empty());
    }

    #[test]
    fn the_tree_keeps_the_times_of_what_did_not_change() {
        let bench = Bench::new();
        bench.import(false).unwrap();
        let ui = Ui::new();
        let tree = ensure(&bench.cache, &bench.store, &bench.base(), &ui).unwrap();
        assert_eq!(
            Git::at(&tree.folder).tree("HEAD").unwrap(),
            bench.git.tree("HEAD").unwrap()
        );
        let (kept, changed) = (tree.folder.join("fs/a.c"), tree.folder.join("fs/layout.c"));
        let (old_kept, first) = (modified(&kept), tree.commit.clone());
        drop(tree);
        bench.write("fs-hooks/linux/fs/layout.c", "int changed;\n");
        let tree = ensure(&bench.cache, &bench.store, &bench.base(), &ui).unwrap();
        assert_ne!(tree.commit, first);
        assert_eq!(modified(&kept), old_kept);
        assert_eq!(std::fs::read_to_string(&changed).unwrap(), "int changed;\n");
    }

    #[test]
    fn a_tree_that_nothing_is_known_of_is_not_lost_either() {
        let bench = Bench::new();
        bench.import(false).unwrap();
        let ui = Ui::new();
        let make = || ensure(&bench.cache, &bench.store, &bench.base(), &ui);
        let folder = make().unwrap().folder;
        let record = bench.cache.trees().join("series.json");
        std::fs::remove_file(&record).unwrap();
        make().unwrap();
        write_if_changed(&folder.join("fs/a.c"), b"int mine;\n").unwrap();
        std::fs::remove_file(&record).unwrap();
        assert!(make().is_err(), "uncommitted work");
        let tree = bench.git.moved_to(&folder);
        tree.text(["commit", "-q", "-a", "-m", "fs: mine"]).unwrap();
        assert!(make().is_err(), "commits that are not in the series");
        assert!(folder.join("fs/a.c").exists());
    }

    #[test]
    fn cleaning_spares_work_and_other_worktrees() {
        let bench = Bench::new();
        bench.import(false).unwrap();
        let ui = Ui::new();
        let clean = || {
            let args = crate::cli::CleanArgs {
                all: false,
                downloads: false,
            };
            crate::clean::clean(&bench.cache, &args, &ui)
        };
        let make = || {
            ensure(&bench.cache, &bench.store, &bench.base(), &ui)
                .unwrap()
                .folder
        };
        // A worktree of theirs, on a disk that is away at the moment.
        let (theirs, away) = (
            bench.git.folder().with_file_name("theirs"),
            bench.git.folder().with_file_name("away"),
        );
        let place = theirs.to_str().unwrap();
        bench
            .git
            .text(["worktree", "add", "-q", "--detach", place])
            .unwrap();
        std::fs::rename(&theirs, &away).unwrap();
        let exclude = bench.git.folder().join(".git/info/exclude");
        let excluded = crate::exec::read_optional(&exclude).unwrap();
        let folder = make();
        write_if_changed(&folder.join("fs/a.c"), b"int mine;\n").unwrap();
        assert_eq!(crate::fail::status_of(&clean().unwrap_err()), 2);
        assert!(folder.join("fs/a.c").exists());
        let tree = Git::at(&folder);
        tree.text(["checkout", "-q", "--force", "HEAD"]).unwrap();
        clean().unwrap();
        assert!(!folder.exists());
        assert!(bench.git.commit("refs/klab/series").is_err());
        let known = bench.git.text(["worktree", "list"]).unwrap();
        assert!(
            known.contains("theirs") && !known.contains("series"),
            "{known}"
        );
        // A tree that was removed by hand.
        std::fs::remove_dir_all(make()).unwrap();
        make();
        std::fs::rename(&away, &theirs).unwrap();
        Git::at(&theirs).text(["status"]).unwrap();
        assert_eq!(crate::exec::read_optional(&exclude).unwrap(), excluded);
    }

    #[test]
    fn work_in_the_tree_is_not_lost() {
        let bench = Bench::new();
        bench.import(false).unwrap();
        let ui = Ui::new();
        let folder = ensure(&bench.cache, &bench.store, &bench.base(), &ui)
            .unwrap()
            .folder;
        let kernel = bench.base();
        let work = Bench {
            git: bench.git.moved_to(&folder),
            ..bench
        };
        write_if_changed(&folder.join("fs/a.c"), b"int mine;\n").unwrap();
        let again = |bench: &Bench| {
            ensure(&bench.cache, &bench.store, &kernel, &ui).map(|tree| tree.commit)
        };
        assert!(again(&work).is_err(), "uncommitted work");
        work.commit("fs: mine", &[]);
        assert!(again(&work).is_err(), "commits that are not in the series");
        work.import(false).unwrap();
        again(&work).unwrap();
        assert_eq!(
            std::fs::read_to_string(folder.join("fs/a.c")).unwrap(),
            "int mine;\n"
        );
    }
}
