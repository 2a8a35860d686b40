//! From the parsed command line to the work.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use anyhow::{Context, Result};
use clap::CommandFactory;
use serde_json::json;

use crate::bench::cow::host as cow;
use crate::bench::pin;
use crate::build::{self, Plan, Profile};
use crate::cache::{Cache, make_given};
use crate::cli::{
    BenchVerb, BuildArgs, Cli, CowArgs, DemoArgs, Filesystem, Group, GuestArgs, InternalVerb,
    PinArgs, RunArgs, SeriesVerb, TestArgs, TreeArgs, Verb,
};
use crate::demo::host as demo;
use crate::demo::report::Report;
use crate::exec::Step;
use crate::fail::{Failure, Kind};
use crate::git::Git;
use crate::guest::session::{self, Spec};
use crate::manual;
use crate::preflight::Guests;
use crate::programs::Programs;
use crate::project;
use crate::results::Results;
use crate::runner::machine::{Platform, Runner};
use crate::runner::qemu::Qemu;
use crate::runner::uml::Uml;
use crate::series::store::Store;
use crate::series::{check, import, tree};
use crate::setup;
use crate::test::board::Board;
use crate::test::suite::{self, Lab, Suite};
use crate::test::{junit, stock, upstream};
use crate::ui::{Ui, coloured, pass_on, print};

/// Runs an internal verb, in a guest or before one, and with one thread.
pub fn start_internal(verb: InternalVerb) -> Result<i32> {
    match verb {
        InternalVerb::Sandbox(sandbox) => sandbox.enter(),
        InternalVerb::SandboxInside(sandbox) => sandbox.inside(),
        InternalVerb::GuestInit { job } => crate::guest::init::main(&job),
        InternalVerb::GuestDemo(args) => crate::demo::guest::main(&args),
        InternalVerb::GuestBenchPin(args) => pin::main(&args),
        InternalVerb::GuestBench(args) => crate::bench::cow::guest::main(&args),
    }
}

/// Runs one verb; returns the exit status.
pub fn start(cli: Cli) -> Result<i32> {
    let level = if cli.verbose {
        "klab=debug"
    } else {
        "klab=warn"
    };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(AutoStream::choice(&std::io::stderr()) != ColorChoice::Never)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("KLAB_LOG")
                .unwrap_or_else(|_| level.into()),
        )
        .without_time()
        .init();
    crate::signals::install(goes_on(&cli.verb))?;
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
        Verb::Man { folder } => {
            match folder {
                Some(folder) => {
                    manual::write(&folder)?;
                    print(folder.display());
                }
                None => pass_on(&manual::main_page()?),
            }
            Ok(0)
        }
    }
}

/// Whether a second run goes on where the first one was interrupted.
fn goes_on(verb: &Verb) -> bool {
    matches!(
        verb,
        Verb::Setup | Verb::Build(_) | Verb::Series(SeriesVerb::Build { .. })
    )
}

fn store() -> Result<Store> {
    Ok(Store::at(project::root()?))
}

fn set_up(ui: &Ui) -> Result<i32> {
    let cache = Cache::locate()?;
    setup::ensure::ensure(&cache, ui, Some(&store()?.base()?))?;
    ui.say(format!(
        "everything is in place; the cache is {}",
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
            if let Some(fix) = &finding.fix {
                print(format!("        fix: {fix}"));
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
    let (folder, commit) = if args.path {
        tree::existing(&cache, args.kdir.as_deref())?
    } else {
        let base = base(&cache, &store, args.kdir.as_deref(), ui)?;
        if args.base_dir {
            (base.repository, base.commit)
        } else {
            let tree = tree::ensure(&cache, &store, &base, ui)?;
            (tree.folder, tree.commit)
        }
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
    let kernel = build::build(&Cache::locate()?, &store()?, &args.source.plan(), ui)?;
    if args.json {
        print(serde_json::to_string(&kernel)?);
    } else {
        print(kernel.image.display());
    }
    Ok(0)
}

/// The kernel to boot: one that is given, or one that is built now.
fn kernel_of(cache: &Cache, plan: &Plan, given: Option<&Path>, ui: &Ui) -> Result<PathBuf> {
    if plan.platform == Platform::Qemu {
        setup::ensure::qemu(cache, ui)?;
    }
    if let Some(file) = given {
        setup::ensure::guest_tools(cache, ui)?;
        return Ok(file.canonicalize()?);
    }
    Ok(build::build(cache, &store()?, plan, ui)?.image)
}

/// What runs the guests.
fn runner_of(platform: Platform, programs: &Programs) -> Box<dyn Runner> {
    let klab = programs.klab();
    match platform {
        Platform::Uml => Box::new(Uml::new(klab)),
        Platform::Qemu => Box::new(Qemu::new(klab)),
    }
}

/// Where the results of a verb go, unless the user says.
fn results_of(verb: &str, given: Option<&Path>) -> Result<PathBuf> {
    results_on(Platform::Uml, verb, given)
}

/// Each platform has a folder of its own.
fn results_on(platform: Platform, verb: &str, given: Option<&Path>) -> Result<PathBuf> {
    Ok(match given {
        Some(folder) => folder.to_owned(),
        None => {
            let name = format!("{verb}{}", platform.suffix());
            project::root()?.join("target/klab").join(name)
        }
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
    let platform = args.source.machine;
    let results = results_on(platform, verb, args.results.as_deref())?;
    let folder = std::env::current_dir()?;
    // Nobody knows how much of the disks will be filled.
    let filled = args.disk.iter().sum::<u64>().min(1 << 30);
    Guests::new(cache, &results, args.memory >> 20)?
        .platform(platform)
        .kernel("--kernel", args.kernel.as_deref())
        .folder("the current folder", Some(&folder))
        .disks(args.disk.len(), filled)
        .check()?;
    let results = Results::take(&results)?;
    let spec = Spec {
        kernel: kernel_of(cache, &args.source.plan(), args.kernel.as_deref(), ui)?,
        memory_mib: args.memory >> 20,
        disks: args.disk.clone(),
        kernel_words: args.append.clone(),
        command,
        environment: terminal_environment(|name| std::env::var(name).ok()),
        folder,
        results: results.folder().to_owned(),
        interactive: false,
        silence: None,
    };
    Ok((spec, results))
}

/// What programs ask for how to use our terminal, which the guest's output goes to.
fn terminal_environment(get: impl Fn(&str) -> Option<String>) -> BTreeMap<String, String> {
    ["TERM", "COLORTERM", "NO_COLOR"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), get(name)?)))
        .collect()
}

fn boot(args: GuestArgs, ui: &Ui) -> Result<i32> {
    if !std::io::stdin().is_terminal() {
        return Err(
            Failure::new(Kind::Usage, "a shell needs a terminal on standard input")
                .hint("run a command instead: cargo klab run -- COMMAND")
                .into(),
        );
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
    let runner = runner_of(args.source.machine, &programs);
    session::run(&cache, &*runner, &spec, &mut session::Silent)?.into_status()
}

fn run(args: RunArgs, ui: &Ui) -> Result<i32> {
    let cache = Cache::locate()?;
    let platform = args.guest.source.machine;
    let (spec, _results) = spec_of(&cache, &args.guest, "run", args.command, ui)?;
    let spec = Spec {
        silence: silence(args.timeout),
        ..spec
    };
    let programs = Programs::keep(&cache)?;
    let runner = runner_of(platform, &programs);
    session::run(&cache, &*runner, &spec, &mut session::PassOn)?.into_status()
}

/// How long a guest may say nothing; for ever if no time is given.
fn silence(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// Which suites beside those of the host are asked for.
fn suites(args: &TestArgs) -> Result<Vec<Suite>> {
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
    // It tries what a mount of the host's files in User Mode Linux would let through. The sandbox that
    // holds is that of all guests.
    if args.source.machine == Platform::Uml {
        if wanted(Group::Isolation) {
            suites.push(Suite::Isolation);
        }
    } else if args.suite.contains(&Group::Isolation) {
        return Err(Failure::new(
            Kind::Usage,
            "--suite isolation tests the sandbox with User Mode Linux",
        )
        .hint("leave out --machine")
        .into());
    }
    Ok(suites)
}

fn test(args: TestArgs, ui: &Ui) -> Result<i32> {
    let cache = Cache::locate()?;
    if args.source.stock {
        return compare_with_stock(&cache, args, ui);
    }
    let suites = suites(&args)?;
    let (results, checkout) = test_preflight(&cache, &args, "test", &suites)?;
    let kernel = kernel_of(&cache, &args.source.plan(), args.kernel.as_deref(), ui)?;
    let programs = Programs::keep(&cache)?;
    let runner = runner_of(args.source.machine, &programs);
    let lab = lab(&cache, &*runner, &args, kernel, &results, checkout, ui)?;
    let board = Board::new(ui, args.json);
    if args.suite.contains(&Group::Host) || (args.suite.is_empty() && args.group.is_empty()) {
        suite::run_host(&lab, &board);
    }
    suite::run_beside(&lab, &board, &suites);
    if let Some(filter) = args.filter.as_ref().filter(|_| board.cases().is_empty()) {
        return Err(
            Failure::new(Kind::Usage, format!("no selected test matches `{filter}`"))
                .hint("names are as in the results, suite first, such as `xfs generic/901`")
                .into(),
        );
    }
    let report = lab.results.join(junit::FILE);
    junit::write(&board, &report)?;
    if args.json {
        let all = json!({ "cases": board.cases(), "sum": board.sum(), "junit": report });
        print(serde_json::to_string_pretty(&all)?);
    } else {
        ui.say(format!(
            "logs and {} are in {}",
            junit::FILE,
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
) -> Result<(Results, Option<PathBuf>)> {
    let checkout = match &args.fstests {
        Some(folder) => Some(checkout(folder)?),
        None => None,
    };
    if let Some(checkout) = checkout.as_ref().filter(|_| !args.group.is_empty()) {
        let ours = project::root()?.join("xfstests");
        upstream::require(checkout, &ours, &filesystems(&args.fs), &args.group)?;
    }
    let platform = args.source.machine;
    let folder = results_on(platform, verb, args.results.as_deref())?;
    let guests = suites.iter().filter(|suite| suite.is_guest()).count();
    let filled = if suites.iter().any(|suite| suite.is_of_filesystems()) {
        suite::FILLED
    } else {
        0
    };
    Guests::new(cache, &folder, suite::MEMORY_MIB)?
        .platform(platform)
        .at_once(guests.min(suite::GUESTS))
        .kernel("--kernel", args.kernel.as_deref())
        .kernel("--stock-kernel", args.stock_kernel.as_deref())
        .folder("--fstests", checkout.as_deref())
        .disks(0, filled)
        .check()?;
    let results = Results::take(&folder)?;
    results.clear()?;
    Ok((results, checkout))
}

fn lab<'a>(
    cache: &'a Cache,
    runner: &'a dyn Runner,
    args: &TestArgs,
    kernel: PathBuf,
    results: &Results,
    checkout: Option<PathBuf>,
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
        patience: patience(args.source.patched.profile) * runner.slowness(),
    })
}

/// How many times as long a kernel may take as one that checks nothing besides.
fn patience(profile: Profile) -> u32 {
    match profile {
        Profile::Release | Profile::Lean => 1,
        Profile::Debug | Profile::Leaks => 3,
    }
}

fn compare_with_stock(cache: &Cache, args: TestArgs, ui: &Ui) -> Result<i32> {
    if args.suite.iter().any(|group| *group != Group::Fstests) {
        return Err(
            Failure::new(Kind::Usage, "--stock compares only filesystem tests")
                .hint("leave out --suite")
                .into(),
        );
    }
    let filesystems = filesystems(&args.fs);
    let suites: Vec<Suite> = filesystems.iter().copied().map(Suite::Filesystem).collect();
    let (results, checkout) = test_preflight(cache, &args, "stock", &suites)?;
    let stock = kernel_of(cache, &args.source.plan(), args.stock_kernel.as_deref(), ui)?;
    let patched = args.source.patched_plan();
    let kernel = kernel_of(cache, &patched, args.kernel.as_deref(), ui)?;
    let programs = Programs::keep(cache)?;
    let runner = runner_of(args.source.machine, &programs);
    let plan = stock::Plan {
        lab: lab(cache, &*runner, &args, kernel, &results, checkout, ui)?,
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
fn data_of(cache: &Cache, args: &DemoArgs) -> PathBuf {
    match (&args.data, &args.source.kdir) {
        (Some(folder), _) => folder.clone(),
        (None, Some(kdir)) => kdir.join("Documentation"),
        (None, None) => cache.base().join("Documentation"),
    }
}

/// Builds the administration command, beside this very program.
fn build_blksnap(cache: &Cache, ui: &Ui) -> Result<PathBuf> {
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
    Guests::new(&cache, &folder, demo::MEMORY_MIB)?
        .at_once(filesystems.len().min(suite::GUESTS))
        .kernel("--kernel", args.kernel.as_deref())
        .folder("--data", Some(&data))
        .disks(1, demo::FILLED)
        .check()?;
    let results = Results::take(&folder)?;
    results.clear()?;
    let kernel = kernel_of(&cache, &args.source.plan(), args.kernel.as_deref(), ui)?;
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
    let reports = demo::run(&plan);
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
        let plan = args.source.plan();
        let profile = match plan.profile {
            // What is measured is not to be what debugging costs, nor a second processor.
            Profile::Release => Profile::Lean,
            profile => profile,
        };
        let plan = Plan {
            profile,
            stock,
            ..plan
        };
        kernel_of(&cache, &plan, given, ui)
    };
    let folder = results_of("bench-pin", args.results.as_deref())?;
    let most = args.extents.iter().max().copied().unwrap_or(1);
    Guests::new(&cache, &folder, pin::MEMORY_MIB)?
        .kernel("--kernel", args.kernel.as_deref())
        .kernel("--stock-kernel", args.stock_kernel.as_deref())
        .disks(1, pin::room_for(most))
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
    Guests::new(&cache, &folder, cow::MEMORY_MIB)?
        .kernel("--kernel", args.kernel.as_deref())
        .check()?;
    let results = Results::take(&folder)?;
    results.clear()?;
    let programs = Programs::keep(&cache)?;
    let plan = cow::Plan {
        cache: &cache,
        runner: &Uml::new(programs.klab()),
        ui,
        klab: programs.klab(),
        kernel: kernel_of(&cache, &args.source.plan(), args.kernel.as_deref(), ui)?,
        single: single_of(&cache, &args, ui)?,
        results: results.folder().to_owned(),
        quick: args.quick,
        filter: args.filter.clone(),
        quiet: args.json,
        docs: match args.update_docs {
            true => Some(project::root()?.join("rust-blksnap")),
            false => None,
        },
    };
    let report = cow::run(&plan)?;
    if let Some(filter) = args.filter.filter(|_| is_empty(&report)) {
        return Err(
            Failure::new(Kind::Usage, format!("no case matches `{filter}`"))
                .hint("names are as in the results of: cargo klab bench cow --quick")
                .into(),
        );
    }
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

/// The kernel for what one processor does, unless a kernel or what it is to be like is given.
fn single_of(cache: &Cache, args: &CowArgs, ui: &Ui) -> Result<Option<PathBuf>> {
    let plan = args.source.plan();
    if args.kernel.is_some() || plan.profile != Profile::Release {
        return Ok(None);
    }
    let plan = Plan {
        profile: Profile::Lean,
        ..plan
    };
    Ok(Some(kernel_of(cache, &plan, None, ui)?))
}

/// Whether nothing was measured, and nothing left out for want of time.
fn is_empty(report: &cow::Report) -> bool {
    let found = &report.findings;
    let measured = [
        found.series.len(),
        found.counts.len(),
        found.memory.len(),
        found.in_flight.len(),
        found.left_out.len(),
    ];
    found.take.is_none() && measured.iter().all(|count| *count == 0)
}

fn checkout(folder: &Path) -> Result<PathBuf> {
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
            let git = import::source(&worktree)?;
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
            let task = ui.task("importing the commits", None);
            let imported = import::import(&store, &git, &options)?;
            task.done();
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
            let task = ui.task("checking the series", None);
            let report = check::check(&store, &Git::at(&base.repository), &base.commit)?;
            task.done();
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
            // Not after minutes of setting up.
            make_given(&folder, "name another folder")?;
            let base = base(&Cache::locate()?, &store, kdir.as_deref(), ui)?;
            let task = ui.task("writing the mails", None);
            let count = crate::series::format::format(&store, &base, &folder)?;
            task.done();
            print(format!("{count} mails in {}", folder.display()));
            Ok(0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cow::model::Findings;
    use crate::bench::machine::Machine;
    use clap::Parser;

    #[test]
    fn only_what_goes_on_promises_to() {
        for (line, wanted) in [
            ("klab setup", true),
            ("klab build --stock", true),
            ("klab series build", true),
            ("klab series check", false),
            ("klab run -- true", false),
            ("klab test", false),
            ("klab demo", false),
            ("klab bench cow", false),
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(goes_on(&cli.verb), wanted, "{line}");
        }
    }

    fn suites_of(line: &str) -> Result<Vec<Suite>> {
        match Cli::try_parse_from(line.split(' ')).unwrap().verb {
            Verb::Test(args) => suites(&args),
            verb => panic!("{verb:?}"),
        }
    }

    #[test]
    fn what_only_user_mode_linux_lets_through_is_tried_there() {
        let on_uml = suites_of("klab test").unwrap();
        let on_qemu = suites_of("klab test --machine qemu").unwrap();
        let left_out = on_uml.iter().filter(|suite| !on_qemu.contains(suite));
        assert_eq!(left_out.collect::<Vec<_>>(), [&Suite::Isolation]);
        let refused = suites_of("klab test --machine qemu --suite isolation").unwrap_err();
        assert_eq!(crate::fail::status_of(&refused), Kind::Usage as i32);
    }

    #[test]
    fn platforms_do_not_share_their_results() {
        let of = |platform| results_on(platform, "test", None).unwrap();
        assert_ne!(of(Platform::Uml), of(Platform::Qemu));
        assert_eq!(of(Platform::Uml), results_of("test", None).unwrap());
    }

    #[test]
    fn no_time_limit_is_none_at_all() {
        assert_eq!(silence(0), None);
        assert_eq!(silence(600), Some(Duration::from_secs(600)));
    }

    #[test]
    fn kernels_that_check_more_get_more_time() {
        assert!(patience(Profile::Debug) > patience(Profile::Release));
        assert!(patience(Profile::Leaks) > patience(Profile::Lean));
    }

    #[test]
    fn the_guest_is_told_of_the_terminal() {
        let set = |name: &str| (name != "TERM").then(|| "1".to_owned());
        let environment = terminal_environment(set);
        let names: Vec<&str> = environment.keys().map(String::as_str).collect();
        assert_eq!(names, ["COLORTERM", "NO_COLOR"]);
    }

    #[test]
    fn a_measurement_without_a_case_is_empty() {
        let mut report = cow::Report {
            machine: Machine::now().unwrap(),
            kernel: String::new(),
            lines: Vec::new(),
            measures: Vec::new(),
            findings: Findings::default(),
            pictures: Vec::new(),
            results: PathBuf::new(),
        };
        assert!(is_empty(&report));
        report.findings.left_out.push("a case".into());
        assert!(!is_empty(&report));
    }
}
