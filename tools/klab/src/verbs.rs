//! From the parsed command line to the work.

use std::io::IsTerminal;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::CommandFactory;
use serde_json::json;

use crate::bench::cow::host as cow;
use crate::bench::pin;
use crate::build::{self, Plan};
use crate::cache::{Cache, make};
use crate::cli::{
    BenchVerb, BuildArgs, Cli, CowArgs, DemoArgs, Filesystem, Group, GuestArgs, PinArgs, RunArgs,
    SeriesVerb, Source, TestArgs, TreeArgs, Verb,
};
use crate::demo::host as demo;
use crate::demo::report::Report;
use crate::exec::Step;
use crate::fail::{Failure, Kind};
use crate::git::Git;
use crate::guest::session::{self, Spec};
use crate::preflight::Guests;
use crate::programs::Programs;
use crate::project;
use crate::results::Results;
use crate::runner::uml::Uml;
use crate::series::store::Store;
use crate::series::{check, import, tree};
use crate::setup;
use crate::test::board::Board;
use crate::test::suite::{self, Lab, Suite};
use crate::test::{junit, stock, upstream};
use crate::ui::{Ui, coloured, pass_on, print};

/// Runs one verb; returns the exit status.
pub fn start(cli: Cli) -> Result<i32> {
    // These run by themselves, in a guest or before one, and with one thread.
    match cli.verb {
        Verb::Sandbox(sandbox) => return sandbox.enter(),
        Verb::SandboxInside(sandbox) => return sandbox.inside(),
        Verb::GuestInit { job } => crate::guest::init::main(&job),
        Verb::GuestDemo(args) => return crate::demo::guest::main(&args),
        Verb::GuestBenchPin(args) => return pin::main(&args),
        Verb::GuestBench(args) => return crate::bench::cow::guest::main(&args),
        _ => {}
    }
    let level = if cli.verbose {
        "klab=debug"
    } else {
        "klab=warn"
    };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("KLAB_LOG")
                .unwrap_or_else(|_| level.into()),
        )
        .without_time()
        .init();
    crate::signals::install()?;
    let ui = Ui::new();
    match cli.verb {
        Verb::Setup => set_up(&ui),
        Verb::Doctor { json } => doctor(json),
        Verb::Tree(args) => show_tree(&args, &ui),
        Verb::Build(args) => build_kernel(&args, &ui),
        Verb::Boot(args) => boot(args, &ui),
        Verb::Run(args) => run(args, &ui),
        Verb::Demo(args) => demonstrate(args, &ui),
        Verb::Test(args) => test(args, &ui),
        Verb::Bench(BenchVerb::Pin(args)) => bench_pin(args, &ui),
        Verb::Bench(BenchVerb::Cow(args)) => bench_cow(args, &ui),
        Verb::Series(verb) => work_on_series(verb, &ui),
        Verb::Clean(args) => {
            crate::clean::clean(&Cache::locate()?, &args, &ui)?;
            Ok(0)
        }
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "klab", &mut script);
            pass_on(&script);
            Ok(0)
        }
        Verb::Man { folder } => manual(folder.as_deref()),
        Verb::Sandbox(_)
        | Verb::SandboxInside(_)
        | Verb::GuestInit { .. }
        | Verb::GuestDemo(_)
        | Verb::GuestBenchPin(_)
        | Verb::GuestBench(_) => unreachable!("handled above"),
    }
}

fn store() -> Result<Store> {
    Ok(Store::at(project::root()?))
}

fn set_up(ui: &Ui) -> Result<i32> {
    let cache = Cache::locate()?;
    setup::ensure::ensure(&cache, ui, Some(&store()?.base()?))?;
    ui.say(format!(
        "everything is there; the cache is {}",
        cache.root().display()
    ));
    Ok(0)
}

fn doctor(json: bool) -> Result<i32> {
    let findings = setup::doctor::examine(&Cache::locate()?);
    if json {
        print(serde_json::to_string_pretty(&findings)?);
    } else {
        for finding in &findings {
            let sign = if finding.good { "ok     " } else { "MISSING" };
            print(format!("{sign} {}: {}", finding.name, finding.detail));
            if let Some(mend) = &finding.mend {
                print(format!("        mend it with: {mend}"));
            }
        }
    }
    Ok(if findings.iter().all(|finding| finding.good) {
        0
    } else {
        Kind::Requirement as i32
    })
}

fn show_tree(args: &TreeArgs, ui: &Ui) -> Result<i32> {
    let cache = Cache::locate()?;
    let store = store()?;
    let base = base(&cache, &store, args.kdir.as_deref(), ui)?;
    let (folder, commit) = if args.base_dir {
        (base.repository, base.commit)
    } else if args.path {
        let folder = base.worktree(&cache);
        let commit = Git::at(&folder).commit("HEAD").map_err(|_| {
            Failure::new(
                Kind::Usage,
                format!("there is no tree {} yet", folder.display()),
            )
            .hint("make it with: cargo klab tree")
        })?;
        (folder, commit)
    } else {
        let tree = tree::ensure(&cache, &store, &base, ui)?;
        (tree.folder, tree.commit)
    };
    if args.json {
        print(json!({ "path": folder, "commit": commit }));
    } else {
        print(folder.display());
    }
    Ok(0)
}

/// The base to apply the series to: somebody's own repository, or ours (fetched if need be).
fn base(cache: &Cache, store: &Store, kdir: Option<&Path>, ui: &Ui) -> Result<tree::Base> {
    if let Some(folder) = kdir {
        return tree::Base::own(folder);
    }
    if !setup::base::is_there(cache) {
        setup::ensure::ensure(cache, ui, Some(&store.base()?))?;
    }
    tree::Base::pristine(cache)
}

fn build_kernel(args: &BuildArgs, ui: &Ui) -> Result<i32> {
    let plan = Plan {
        profile: args.source.profile,
        stock: args.source.stock,
        kdir: args.source.kdir.clone(),
    };
    let kernel = build::build(&Cache::locate()?, &store()?, &plan, ui)?;
    if args.json {
        print(serde_json::to_string(&kernel)?);
    } else {
        print(kernel.image.display());
    }
    Ok(0)
}

/// The kernel to boot: one that is given, or one that is built now.
fn kernel_of(
    cache: &Cache,
    source: &Source,
    given: Option<&Path>,
    ui: &Ui,
) -> Result<std::path::PathBuf> {
    if let Some(file) = given {
        setup::ensure::guest_tools(cache, ui)?;
        return Ok(file.canonicalize()?);
    }
    let plan = Plan {
        profile: source.profile,
        stock: source.stock,
        kdir: source.kdir.clone(),
    };
    Ok(build::build(cache, &store()?, &plan, ui)?.image)
}

/// Where the results of a verb go, unless the user says.
fn results_of(verb: &str, given: Option<&Path>) -> Result<std::path::PathBuf> {
    Ok(match given {
        Some(folder) => folder.to_owned(),
        None => project::root()?.join("target/klab").join(verb),
    })
}

/// A guest by hand, with the folder of its results, which is its alone for as long as it is held.
fn spec_of(
    cache: &Cache,
    args: &GuestArgs,
    verb: &str,
    command: Vec<String>,
    ui: &Ui,
) -> Result<(Spec, Results)> {
    let results = results_of(verb, args.results.as_deref())?;
    let folder = std::env::current_dir()?;
    Guests {
        cache,
        root: &project::root()?,
        kernels: args.kernel.as_deref().into_iter().collect(),
        results: &results,
        folders: vec![("the current folder", &folder)],
        at_once: 1,
        memory_mib: args.memory >> 20,
        disks: args.disk.len(),
        // Nobody knows how much of them will be filled.
        disk_bytes: args
            .disk
            .iter()
            .fold(0, |sum: u64, disk| sum.saturating_add(*disk))
            .min(1 << 30),
    }
    .check()?;
    let results = Results::take(&results)?;
    let spec = Spec {
        kernel: kernel_of(cache, &args.source, args.kernel.as_deref(), ui)?,
        memory_mib: args.memory >> 20,
        disks: args.disk.clone(),
        kernel_words: args.append.clone(),
        command,
        environment: terminal_environment(),
        folder,
        results: results.folder().to_owned(),
        interactive: false,
        silence: None,
    };
    Ok((spec, results))
}

fn terminal_environment() -> std::collections::BTreeMap<String, String> {
    ["TERM", "COLORTERM"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
        .collect()
}

fn boot(args: GuestArgs, ui: &Ui) -> Result<i32> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(Kind::Usage, "a shell needs a terminal")
            .hint("run a command instead: cargo klab run -- COMMAND")
            .into());
    }
    let cache = Cache::locate()?;
    let shell = vec!["/bin/bash".to_owned(), "-i".to_owned()];
    let (spec, _results) = spec_of(&cache, &args, "boot", shell, ui)?;
    let spec = Spec {
        interactive: true,
        ..spec
    };
    ui.say(format!(
        "the guest sees this machine read-only; it can write to {} and to memory; leave it with: exit",
        spec.results.display()
    ));
    let programs = Programs::keep(&cache)?;
    let uml = Uml::new(programs.klab());
    session::run(&cache, &uml, &spec, &mut session::Silent)?.into_status()
}

fn run(args: RunArgs, ui: &Ui) -> Result<i32> {
    let cache = Cache::locate()?;
    let (spec, _results) = spec_of(&cache, &args.guest, "run", args.command, ui)?;
    let spec = Spec {
        silence: Some(Duration::from_secs(args.timeout)),
        ..spec
    };
    let programs = Programs::keep(&cache)?;
    let uml = Uml::new(programs.klab());
    session::run(&cache, &uml, &spec, &mut session::PassOn)?.into_status()
}

/// Which suites beside those of the host are asked for.
fn suites(args: &TestArgs) -> Vec<Suite> {
    let all = args.suite.is_empty() && args.group.is_empty();
    let wanted = |group| all || args.suite.contains(&group);
    let mut suites = Vec::new();
    if wanted(Group::Fstests) || !args.group.is_empty() {
        // The slowest first, so that the others fill the gaps.
        suites.extend(filesystems(&args.fs).into_iter().map(Suite::Filesystem));
    }
    if wanted(Group::Harness) {
        suites.extend([Suite::Selftest, Suite::Lint]);
    }
    if wanted(Group::Series) {
        suites.push(Suite::Series);
    }
    if wanted(Group::Kunit) {
        suites.push(Suite::Kunit);
    }
    if wanted(Group::Isolation) {
        suites.push(Suite::Isolation);
    }
    suites
}

fn test(args: TestArgs, ui: &Ui) -> Result<i32> {
    let cache = Cache::locate()?;
    if args.source.stock {
        return compare_with_stock(&cache, args, ui);
    }
    let suites = suites(&args);
    let (results, checkout) = test_preflight(&cache, &args, "test", &suites)?;
    let kernel = kernel_of(&cache, &args.source, args.kernel.as_deref(), ui)?;
    let programs = Programs::keep(&cache)?;
    let uml = Uml::new(programs.klab());
    let lab = lab(&cache, &uml, &args, kernel, &results, checkout, ui)?;
    let board = Board::new(ui, args.json);
    if args.suite.contains(&Group::Host) || (args.suite.is_empty() && args.group.is_empty()) {
        suite::run_host(&lab, &board);
    }
    suite::run_beside(&lab, &board, &suites);
    if let Some(filter) = args.filter.as_ref().filter(|_| board.cases().is_empty()) {
        return Err(Failure::new(
            Kind::Usage,
            format!("no test that is asked for has `{filter}` in its name"),
        )
        .hint("names are as in the results, suite first, such as `xfs generic/901`")
        .into());
    }
    let report = lab.results.join("junit.xml");
    junit::write(&board, &report)?;
    if args.json {
        let all = json!({ "cases": board.cases(), "sum": board.sum(), "junit": report });
        print(serde_json::to_string_pretty(&all)?);
    } else {
        ui.say(format!(
            "logs and {} are in {}",
            "junit.xml",
            lab.results.display()
        ));
        for line in board.closing() {
            print(coloured(&line));
        }
    }
    Ok(if board.good() { 0 } else { Kind::Tests as i32 })
}

/// Looks at everything that can be looked at before a kernel is built.
fn test_preflight(
    cache: &Cache,
    args: &TestArgs,
    verb: &str,
    suites: &[Suite],
) -> Result<(Results, Option<std::path::PathBuf>)> {
    let root = project::root()?;
    let checkout = match &args.fstests {
        Some(folder) => Some(checkout(folder)?),
        None => None,
    };
    if let Some(checkout) = checkout.as_ref().filter(|_| !args.group.is_empty()) {
        let ours = root.join("xfstests");
        upstream::require(checkout, &ours, &filesystems(&args.fs), &args.group)?;
    }
    let folder = results_of(verb, args.results.as_deref())?;
    let kernels = [&args.kernel, &args.stock_kernel];
    let guests = suites.iter().filter(|suite| suite.is_guest()).count();
    let filled = if suites.iter().any(|suite| suite.is_of_filesystems()) {
        suite::FILLED
    } else {
        0
    };
    Guests {
        cache,
        root: &root,
        kernels: kernels.into_iter().filter_map(|k| k.as_deref()).collect(),
        results: &folder,
        folders: checkout
            .iter()
            .map(|folder| ("--fstests", folder.as_path()))
            .collect(),
        at_once: guests.min(suite::GUESTS) as u64,
        memory_mib: suite::MEMORY_MIB,
        disks: 0,
        disk_bytes: filled,
    }
    .check()?;
    let results = Results::take(&folder)?;
    results.clear()?;
    Ok((results, checkout))
}

fn lab<'a>(
    cache: &'a Cache,
    runner: &'a Uml,
    args: &TestArgs,
    kernel: std::path::PathBuf,
    results: &Results,
    checkout: Option<std::path::PathBuf>,
    ui: &'a Ui,
) -> Result<Lab<'a>> {
    Ok(Lab {
        cache,
        runner,
        ui,
        root: project::root()?,
        kernel,
        results: results.folder().to_owned(),
        filter: args.filter.clone(),
        only: None,
        environment: args.env.iter().cloned().collect(),
        checkout,
        groups: args.group.clone(),
        patience: match args.source.profile {
            build::Profile::Release | build::Profile::Lean => 1,
            build::Profile::Debug | build::Profile::Leaks => 3,
        },
    })
}

fn compare_with_stock(cache: &Cache, args: TestArgs, ui: &Ui) -> Result<i32> {
    if args.suite.iter().any(|group| *group != Group::Fstests) {
        return Err(
            Failure::new(Kind::Usage, "--stock compares tests of filesystems only")
                .hint("leave out --suite")
                .into(),
        );
    }
    let filesystems = filesystems(&args.fs);
    let suites: Vec<Suite> = filesystems.iter().copied().map(Suite::Filesystem).collect();
    let (results, checkout) = test_preflight(cache, &args, "stock", &suites)?;
    let stock = kernel_of(cache, &args.source, args.stock_kernel.as_deref(), ui)?;
    let patched = Source {
        stock: false,
        ..args.source.clone()
    };
    let kernel = kernel_of(cache, &patched, args.kernel.as_deref(), ui)?;
    let programs = Programs::keep(cache)?;
    let uml = Uml::new(programs.klab());
    let plan = stock::Plan {
        lab: lab(cache, &uml, &args, kernel, &results, checkout, ui)?,
        stock,
        release: store()?.base()?,
        filesystems,
        update_readme: args.update_readme,
        json: args.json,
    };
    let held = stock::run(&plan, ui)?;
    Ok(if held { 0 } else { Kind::Tests as i32 })
}

/// Files for the demonstration: the user's, else the documentation of the kernel source.
fn data_of(cache: &Cache, args: &DemoArgs) -> std::path::PathBuf {
    match (&args.data, &args.source.kdir) {
        (Some(folder), _) => folder.clone(),
        (None, Some(kdir)) => kdir.join("Documentation"),
        (None, None) => cache.base().join("Documentation"),
    }
}

/// Builds the administration command, beside this very program.
fn build_blksnap(cache: &Cache, ui: &Ui) -> Result<std::path::PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().context("this program lies in a folder")?;
    let target = folder
        .parent()
        .context("this program lies in a target folder")?;
    let mut command = Command::new("cargo");
    command
        .args(["build", "--release", "--package", "blksnap", "--target-dir"])
        .arg(target)
        .current_dir(project::root()?);
    Step::new(
        "building the blksnap command",
        cache.log("blksnap"),
        Kind::Build,
    )
    .run(ui, command)?;
    Ok(target.join("release/blksnap"))
}

fn demonstrate(args: DemoArgs, ui: &Ui) -> Result<i32> {
    let cache = Cache::locate()?;
    let data = data_of(&cache, &args);
    // Without any of these it comes with the kernel source.
    if args.data.is_some() || args.source.kdir.is_some() || args.kernel.is_some() {
        demo::check_data(&data)?;
    }
    let folder = results_of("demo", args.results.as_deref())?;
    let filesystems = filesystems(&args.fs);
    Guests {
        cache: &cache,
        root: &project::root()?,
        kernels: args.kernel.as_deref().into_iter().collect(),
        results: &folder,
        folders: vec![("--data", &data)],
        at_once: filesystems.len().min(suite::GUESTS) as u64,
        memory_mib: demo::MEMORY_MIB,
        disks: 1,
        disk_bytes: demo::FILLED,
    }
    .check()?;
    let results = Results::take(&folder)?;
    results.clear()?;
    let kernel = kernel_of(&cache, &args.source, args.kernel.as_deref(), ui)?;
    let programs = Programs::keep(&cache)?;
    let plan = demo::Plan {
        cache: &cache,
        runner: &Uml::new(programs.klab()),
        ui,
        kernel,
        klab: programs.klab(),
        blksnap: programs.add(&build_blksnap(&cache, ui)?)?,
        data: data.canonicalize()?,
        results: results.folder().to_owned(),
        filesystems,
        quiet: args.json,
    };
    let reports = demo::run(&plan)?;
    let held = reports.iter().all(Report::held);
    if args.json {
        let all = json!({ "held": held, "results": plan.results, "filesystems": reports });
        print(serde_json::to_string_pretty(&all)?);
        return Ok(if held { 0 } else { Kind::Tests as i32 });
    }
    print("");
    for picture in reports.iter().filter_map(|report| report.picture.as_ref()) {
        for line in picture.terminal() {
            print(line);
        }
        print("");
    }
    for (report, step) in reports
        .iter()
        .flat_map(|r| r.steps.iter().map(move |s| (r, s)))
    {
        if !step.held {
            print(format!(
                "{} {}: {}",
                report.filesystem, step.name, step.detail
            ));
        }
    }
    for line in demo::table(&reports) {
        print(line);
    }
    ui.say(format!(
        "pictures, reports and console logs are in {}",
        plan.results.display()
    ));
    Ok(if held { 0 } else { Kind::Tests as i32 })
}

fn bench_pin(args: PinArgs, ui: &Ui) -> Result<i32> {
    let cache = Cache::locate()?;
    let kernel = |stock: bool, given: Option<&Path>| {
        let profile = match args.source.profile {
            // What is measured is not to be what debugging costs.
            build::Profile::Release if !stock => build::Profile::Lean,
            profile => profile,
        };
        let source = Source {
            profile,
            stock,
            ..args.source.clone()
        };
        kernel_of(&cache, &source, given, ui)
    };
    let folder = results_of("bench-pin", args.results.as_deref())?;
    let kernels = [&args.kernel, &args.stock_kernel];
    Guests {
        cache: &cache,
        root: &project::root()?,
        kernels: kernels.into_iter().filter_map(|k| k.as_deref()).collect(),
        results: &folder,
        folders: Vec::new(),
        at_once: 1,
        memory_mib: pin::MEMORY_MIB,
        disks: 1,
        disk_bytes: pin::room_for(args.extents.iter().max().copied().unwrap_or(1)),
    }
    .check()?;
    let results = Results::take(&folder)?;
    results.clear()?;
    let programs = Programs::keep(&cache)?;
    let plan = pin::Plan {
        cache: &cache,
        runner: &Uml::new(programs.klab()),
        ui,
        klab: programs.klab(),
        stock: kernel(true, args.stock_kernel.as_deref())?,
        patched: kernel(false, args.kernel.as_deref())?,
        filesystems: filesystems(&args.fs),
        extents: args.extents.clone(),
        rounds: args.rounds.into(),
        results: results.folder().to_owned(),
        docs: match args.update_docs {
            true => Some(project::root()?.join("fs-hooks/BENCH.md")),
            false => None,
        },
    };
    let report = pin::run(&plan)?;
    if args.json {
        print(serde_json::to_string_pretty(&report)?);
    } else {
        print(pin::markdown(&report));
        ui.say(format!(
            "pin.md, pin.json and the logs are in {}",
            plan.results.display()
        ));
    }
    Ok(0)
}

/// Those that are named, in the order of all; all if none is.
fn filesystems(named: &[Filesystem]) -> Vec<Filesystem> {
    Filesystem::ALL
        .into_iter()
        .filter(|fs| named.is_empty() || named.contains(fs))
        .collect()
}

fn bench_cow(args: CowArgs, ui: &Ui) -> Result<i32> {
    let cache = Cache::locate()?;
    let folder = results_of("bench-cow", args.results.as_deref())?;
    Guests {
        cache: &cache,
        root: &project::root()?,
        kernels: args.kernel.as_deref().into_iter().collect(),
        results: &folder,
        folders: Vec::new(),
        at_once: 1,
        memory_mib: cow::MEMORY_MIB,
        disks: 0,
        disk_bytes: 0,
    }
    .check()?;
    let results = Results::take(&folder)?;
    results.clear()?;
    let programs = Programs::keep(&cache)?;
    let plan = cow::Plan {
        cache: &cache,
        runner: &Uml::new(programs.klab()),
        ui,
        klab: programs.klab(),
        kernel: kernel_of(&cache, &args.source, args.kernel.as_deref(), ui)?,
        results: results.folder().to_owned(),
        quick: args.quick,
        filter: args.filter,
        quiet: args.json,
        docs: match args.update_docs {
            true => Some(project::root()?.join("rust-blksnap")),
            false => None,
        },
    };
    let report = cow::run(&plan)?;
    if args.json {
        print(serde_json::to_string_pretty(&report)?);
        return Ok(0);
    }
    print("");
    for line in cow::table(&report.measures) {
        print(line);
    }
    ui.say(format!(
        "plots, {} and logs are in {}",
        cow::REPORT,
        report.results.display()
    ));
    Ok(0)
}

fn checkout(folder: &Path) -> Result<std::path::PathBuf> {
    let built = folder.join("check").is_file() && folder.join("src/feature").is_file();
    if !built {
        return Err(Failure::new(
            Kind::Usage,
            format!(
                "--fstests {}: not an xfstests checkout that has been built",
                folder.display()
            ),
        )
        .hint(format!("make -C {}", folder.display()))
        .into());
    }
    Ok(folder.canonicalize()?)
}

fn work_on_series(verb: SeriesVerb, ui: &Ui) -> Result<i32> {
    let store = store()?;
    match verb {
        SeriesVerb::Import {
            worktree,
            base,
            fold,
            json,
        } => {
            let git = Git::at(&worktree);
            let project = Git::at(store.root());
            let name = project.text(["config", "user.name"]).unwrap_or_default();
            let address = project.text(["config", "user.email"]).unwrap_or_default();
            if name.is_empty() || address.is_empty() {
                return Err(Failure::new(Kind::Usage, "git does not know who sends the mails")
                    .hint("git config --global user.name NAME; git config --global user.email MAIL")
                    .into());
            }
            let sender = format!("{name} <{address}>");
            let options = import::Options {
                base: &base,
                head: "HEAD",
                sender: Some(&sender),
                fold,
            };
            let imported = import::import(&store, &git, &options)?;
            if json {
                print(serde_json::to_string(&imported)?);
                return Ok(0);
            }
            for path in &imported.unnamed {
                ui.say(format!("warning: no mail names the new file {path}"));
            }
            for path in &imported.ignored {
                ui.say(format!(
                    "warning: {path} is in no commit: git add --force {path}"
                ));
            }
            print(format!(
                "{} mails, {} new files",
                imported.mails, imported.new_files
            ));
            Ok(0)
        }
        SeriesVerb::Check { kdir, json } => {
            let base = base(&Cache::locate()?, &store, kdir.as_deref(), ui)?;
            let report = check::check(&store, &Git::at(&base.repository), &base.commit)?;
            if json {
                print(serde_json::to_string_pretty(&report)?);
            } else {
                for problem in &report.problems {
                    print(problem);
                }
                let tree = report.tree.as_deref().unwrap_or("none");
                print(format!(
                    "{} mails, {} new files, tree {tree}, {} problems",
                    report.mails,
                    report.new_files,
                    report.problems.len()
                ));
            }
            Ok(if report.problems.is_empty() {
                0
            } else {
                Kind::Series as i32
            })
        }
        SeriesVerb::Build { kdir, json } => {
            let cache = Cache::locate()?;
            let base = base(&cache, &store, kdir.as_deref(), ui)?;
            let built = crate::series::steps::build(&cache, &store, &base, ui)?;
            if json {
                print(serde_json::to_string(&built)?);
            } else {
                print(format!(
                    "{} mails build ({} were built before)",
                    built.mails, built.before
                ));
            }
            Ok(0)
        }
        SeriesVerb::Format { folder, kdir } => {
            let base = base(&Cache::locate()?, &store, kdir.as_deref(), ui)?;
            let count = crate::series::format::format(&store, &base, &folder)?;
            print(format!("{count} mails in {}", folder.display()));
            Ok(0)
        }
    }
}

fn manual(folder: Option<&Path>) -> Result<i32> {
    match folder {
        Some(folder) => {
            make(folder)?;
            clap_mangen::generate_to(Cli::command(), folder)?;
            print(folder.display());
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            pass_on(&page);
        }
    }
    Ok(0)
}
