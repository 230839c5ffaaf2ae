"""Texts of ``--help``. The first paragraph of a command's text describes the command; the rest are examples."""

import argparse
from typing import NoReturn

from metaloop.errors import UserError

TOP = """usage: metaloop COMMAND ...

Meta-learning experiments. A configuration composes a run, a run leaves a record, and records become reports.

commands:
  train       meta-train and meta-test; one configuration makes one run directory
  sweep       many runs; given again, it continues with those that are not done
  evaluate    meta-test a finished run again, also on other episodes or data
  predict     adapt a finished run to your own labelled texts, pictures or table, and predict
  play        show what the policy of a run in environments does in one task
  recommend   say which learner to try first on your own table, and why
  inspect     show what adaptation does in a finished run, layer by layer
  report      make tables and plots from the records of runs
  compare     compare two runs, episode by episode
  reproduce   compare published numbers of papers with measured ones
  study       run a study of our own and write its page: what a number means, feature reuse, score for minutes
  list        list algorithms, models, data sets, experiments and sweeps
  data        show, download or verify data sets: status, get, verify
  new         write the skeleton of a learner of your own, with config and test
  doctor      describe this machine and installation, for a bug report
  wandb       send offline logs to Weights & Biases: sync
  completion  print a script that completes all this in bash, zsh or fish

examples:
  metaloop train                                    the default; needs no download
  metaloop train algorithm=anil episode=5w5s        another algorithm, five shots
  metaloop train -m algorithm=maml,fomaml seed=0,1  a sweep of four runs
  metaloop report outputs/*/*                       one page over all runs

metaloop COMMAND --help explains a command; metaloop --version prints the version.
exit status: 0 success, 2 the request cannot work, 1 an error in metaloop, 130 stopped by Ctrl-C, 143 by SIGTERM"""

TRAIN = """usage: metaloop train [GROUP=OPTION ...] [KEY=VALUE ...] [-m] [--dry-run] [--config-dir DIR] [resume=DIR|auto]

Meta-trains, meta-tests the best checkpoint, and writes everything into one run directory under outputs/.

examples:
  metaloop train                                            the default: MAML, Conv-4, letters from fonts
  metaloop train algorithm=metasgd algorithm.steps=5        another preset with five inner steps
  metaloop train algorithm/meta_gradient=first_order        one choice of the composition changed
  metaloop train dataset=omniglot dataset.split_scheme=vinyals episode=20w1s
  metaloop train trainer=gpu trainer.max_steps=30000 logger=wandb
  metaloop train -m algorithm=maml,anil,boil seed=0,1,2     a sweep: nine runs
  metaloop train resume=outputs/maml_glyphs/2026-01-31_12-00-00-000000
  metaloop train experiment=finn2017_maml_omniglot_5w1s --dry-run   what it will take in time and memory, by a short trial
  metaloop train debug=quick                                two outer steps, to see whether everything runs
  metaloop train start_from=DIR notes='second try'          with the parameters of another run; a remark for the record
  metaloop train +callbacks.mine._target_=mylab.Mine        with a Lightning callback of your own
  metaloop train resume=auto                                continue the unfinished run of this configuration
  metaloop train resume=DIR --config-dir conf               of a run of your own model, from your package beside conf
  metaloop train resume=DIR trust=mylab                     of a run from somebody else that names classes of mylab
  metaloop train --config-dir conf model=mine               your own model, from your own package

options:
  -m, --multirun       make a sweep from keys with several values; metaloop sweep --help has its options
  --dry-run            try a few outer steps, say what the run will take and where it would be written, and end
  --config-dir DIR     another folder of configuration groups
  --cfg job            print the composed configuration instead of running
  --info defaults      print where each part of it comes from
  --hydra-help         Hydra's other options

metaloop list shows what can be chosen; metaloop completion lets the shell complete it. python -m
metaloop.cli.hydra_entry takes the same arguments."""

SWEEP = """Runs every combination that conf/sweep/NAME.yaml or the overrides name, several at a time. Given again, the
command skips finished runs, resumes interrupted ones and retries failed ones.

examples:
  metaloop sweep five_choices                       MAML with one of its five choices changed at a time
  metaloop sweep five_choices --dry-run             what would run, and for how long
  metaloop sweep five_choices dataset=omniglot seed=0,1,2 trainer=gpu --per-gpu 2
  metaloop train -m algorithm=maml,anil seed=0,1    a sweep without a file
  metaloop sweep sinusoid_search search.trials=60   a search: Optuna proposes the runs
  metaloop sweep status five_choices                the state of its runs; without a name: all sweeps
  metaloop sweep show five_choices 3                one run, with the end of its log
  metaloop sweep retry five_choices 3               try a run again that failed too often or for good
  metaloop sweep cancel five_choices                stop it, also from another terminal
  metaloop sweep list                               the sweeps of the configuration
  metaloop sweep five_choices --shard auto          this job's part, in an array job (docs/clusters.md)
  metaloop sweep five_choices launcher=ray          on the Ray cluster of RAY_ADDRESS
  metaloop sweep five_choices sweep.pack=false      runs of small nets are not computed together
  metaloop sweep five_choices hydra/launcher=submitit_slurm hydra.launcher.partition=gpu"""

EVALUATE = """usage: metaloop evaluate run=DIR [GROUP=OPTION ...] [KEY=VALUE ...] [--config-dir DIR]

Meta-tests the best checkpoint of a finished run, optionally with changed settings. Writes the result under DIR/evaluations/.

examples:
  metaloop evaluate run=outputs/maml_glyphs/2026-01-31_12-00-00-000000
  metaloop evaluate run=DIR episode.shots=5 evaluation.episodes=2000
  metaloop evaluate run=DIR algorithm.eval_steps=10         more inner steps than in training
  metaloop evaluate run=DIR dataset=omniglot                another data set
  metaloop evaluate run=DIR dataset=omniglot_challenge      the one-shot task of Lake et al.: the error rate
  metaloop evaluate run=DIR algorithm/adapted=head          what adapts at test: all, head or body
  metaloop evaluate run=DIR algorithm.rule.lr=0.1           another inner learning rate, if it is a fixed one
  metaloop evaluate run=DIR algorithm.eval_steps=10 split=validation    choose a setting without looking at the test
  metaloop evaluate run=DIR checkpoint=minutes-5.ckpt       another checkpoint that the run kept, see callbacks=cpu_budget
  metaloop evaluate run=DIR unfinished=true                 the best checkpoint so far of a run that was stopped
  metaloop evaluate run=DIR data_changed=allow              the data set has other classes now: test those that the run had left
  metaloop evaluate run=DIR --config-dir conf               a run of your own model, from your package beside conf
  metaloop evaluate run=DIR trust=mylab                     a run from somebody else that names classes of the package mylab"""

PREDICT = """usage: metaloop predict run=DIR support=FILE query=FILE [KEY=VALUE ...]
       metaloop predict model=DIR query=FILE [KEY=VALUE ...]
       metaloop predict model=pfn support=FILE query=FILE [KEY=VALUE ...]
       metaloop predict run=DIR ask=N [rule=NAME]
       metaloop predict run=DIR support=FILE rank=N

Adapts the best checkpoint of a finished run to a few labelled examples of yours (support) and predicts others (query). The
run's data set prepares your files as it prepared its own examples. Classes and examples per class can be any number.

texts       CSV, TSV, JSON or JSON lines with the columns text and label; for a query also .txt, one text per line
pictures    a folder or zip archive with one folder per class, or a CSV file with the columns path and label; for a query
            also pictures without class folders
tables      CSV with a column label (a class, or the number to predict); all other columns are numbers, truth values, dates
            or categories, or empty; ignore=NAME,NAME leaves columns out
ratings     CSV with the columns item and rating; ask=N says which items to rate first, rank=N ranks the others

model=pfn and model=pfn_regression come with metaloop: they predict small tables without any training (docs/tables.md).
model=detector does, too: it scores the rows of a query by how they differ from those of support (docs/anomalies.md).

Labels of a query are optional; they are scored but never used for prediction. Writes predictions.csv, and predictions.json
with everything that was used, in a new folder under DIR/predictions/, or to the file that out= names.

examples:
  metaloop predict run=outputs/prototypes_text_files/2026-01-31_12-00-00-000000 support=five_each.csv query=new.csv
  metaloop predict run=DIR support=intents.csv text=question label=intent query=questions.txt out=answers.csv
  metaloop predict run=DIR support=flowers.zip query=holiday/ save=my_flowers    saves the adapted model
  metaloop predict model=my_flowers query=garden/                                uses it, without run and support
  metaloop predict run=DIR support=measured.csv query=new.csv label=price steps=20

keys:
  run=DIR        a finished run; needs support=
  model=DIR      an adapted model that save= saved; or pfn, pfn_regression, detector, which need support=
  support=FILE   labelled examples to adapt to
  query=FILE     examples to predict; optional with save=
  rank=N         in the place of query=: all items that the support set does not have, the best first; N are shown
  ask=N          the N items that a new user is asked about first, by rule= (popularity_entropy, popularity, gradient_norm)
  text=, path=, label=NAME   names of the columns in the files (default: text, path, label)
  ignore=, categories=NAME,NAME   columns of a table to leave out; columns of codes that are categories, not numbers
  steps=N        inner steps (default: those of the run's meta-test)
  alarm_rate=R   for runs on anomalies: mark the rows whose score at most a share of R of new inliers exceeds, such as 0.01
  unfinished=true   use the best checkpoint so far of a run that was stopped
  data_changed=allow   use a run whose data set has changed since, with the classes that it was trained on
  trust=NAME     a package that a run or model from somebody else may name (docs/trust.md)
  --config-dir DIR   your folder of configuration, if the run uses your own package beside it
  out=FILE       a .csv file for the predictions; earlier predictions in it are replaced
  save=DIR       save the adapted model in this new folder"""

PLAY = """usage: metaloop play run=DIR [task=N] [gif=FILE.gif] [beliefs=FILE] [KEY=VALUE ...]

Plays one task of the meta-test of a finished run on a data set of environments, exactly as the meta-test did: the policy adapts
and acts. Prints the return of each episode, and draws the paths in grids, mazes, catch and point navigation.

symbols: @ player, + where it was, * goal, k key, D door, # wall, o ball, ' where it was, = paddle

examples:
  metaloop play run=outputs/rl2_dark_room/2026-01-31_12-00-00-000000
  metaloop play run=DIR task=7 gif=seven.gif        also a moving picture
  metaloop play run=DIR task=7 trust=mylab          a run from somebody else that names classes of the package mylab

keys:
  run=DIR        a finished run
  task=N         number of the task in the meta-test, which is its row in episodes.csv (default: 0)
  gif=FILE       a .gif file for a moving picture of all episodes
  beliefs=FILE   a .png or .csv file for the posterior of the task, step by step, of a policy that has one (varibad, pearl)
  unfinished=true   use the best checkpoint so far of a run that was stopped
  data_changed=allow   use a run whose data set has changed since
  trust=NAME     a package that a run from somebody else may name (docs/trust.md)
  --config-dir DIR   your folder of configuration, if the run uses your own package beside it"""

RECOMMEND = """Says which learner and settings to try first on your own table, and why, from its meta-features: how it resembles
tables on which all learners were tried. The table is not trained on. docs/knowledge.md lists the meta-features.

keys:
  label=NAME         column of the classes (default: label)
  ignore=NAME,NAME   columns that are no features
  categories=NAME,NAME   columns of codes that are categories, not numbers
  run=DIR            a run of experiment=meta_knowledge dataset=learners_on_tables (default: a forest on that scenario)

examples:
  metaloop recommend patients.csv label=outcome ignore=id
  metaloop recommend patients.csv label=outcome --features       and print its thirty meta-features
  metaloop recommend patients.csv label=outcome run=outputs/meta_knowledge/2026-01-31_12-00-00-000000   by its decision tree"""

INSPECT = """Shows what adaptation does in a finished run: how far parameters and representations move in each layer, losses,
the gain from adapting the head or the body, accuracy by class. Writes a page, pictures and data into DIR/inspection/.

examples:
  metaloop inspect outputs/maml_glyphs/2026-01-31_12-00-00-000000
  metaloop inspect DIR --episodes 200            narrower intervals
  metaloop inspect DIR --steps 10                more inner steps than in the meta-test
  metaloop inspect DIR --config-dir conf         a run of your own model, from your package beside conf
  metaloop inspect DIR trust=mylab               a run from somebody else that names classes of the package mylab"""

REPORT = """Writes one self-contained page about runs: tables of any keys, curves, main effects and interactions, ranks,
cost, paired differences, failures. Also writes the tables as Markdown, CSV and LaTeX and the figures as PNG.

examples:
  metaloop report outputs/maml_glyphs/2026-01-31_12-00-00-000000
  metaloop report outputs/*/*                    all runs of this folder
  metaloop report outputs/a outputs/b --output docs/comparison
  metaloop report outputs/sweeps/grid --rows algorithm --columns algorithm.steps,dataset --baseline algorithm=maml
  metaloop report outputs/sweeps/grid --rows algorithm/rule --over algorithm.steps --where dataset=omniglot"""

REPRODUCE = """Says which published numbers are reproduced, by how much the others are off, and which were not run. Writes
docs/results.md and its picture. Named experiments are run in outputs/reproduce, unless they have finished there.

examples:
  metaloop reproduce                                        run nothing, write the page
  metaloop reproduce finn2017_maml_sinusoid_5shot --seeds 3
  metaloop reproduce finn2017_maml_omniglot_5w1s trainer=gpu
  metaloop sweep reproduction                               run all, for days; can be stopped and given again
  metaloop reproduce --keep                                 copy what the sweep has finished to docs/records
  metaloop reproduce --check                                exit status 1 if the page and the records disagree"""

STUDY = """Runs a study: trainings of the sweep study_NAME, evaluations of each in many settings, and a page. Overrides
change the trainings, those of evaluation.* the evaluations, too. What has finished is not done again. Without a name, the
pages are written again from docs/records/studies.

studies:
  number    what a published accuracy depends on: queries, tasks, norm statistics, rotation, inner steps, order
  reuse     rapid learning or feature reuse: what adapts in training and at test, and how representations change
  minutes   learners at equal budgets of processor time

examples:
  metaloop study number                                     the full study, for hours
  metaloop study number trainer.max_steps=2000 evaluation.episodes=400
  metaloop study --check                                    exit status 1 if a page and its records disagree"""

COMPARE = """Compares two runs over the same meta-test episodes: the difference with its interval, the episodes on which
they disagree most, and the differences between their configs.

examples:
  metaloop compare outputs/maml_glyphs/A outputs/anil_glyphs/B
  metaloop compare A B --output docs/maml_and_anil
  metaloop compare A A/evaluations/0a1b2c3d4e5f             a run and a later evaluation of it
  metaloop compare A B --config-dir conf                    runs of your own models, from your package beside conf
  metaloop compare A B trust=mylab                          runs from somebody else that name classes of the package mylab"""

LIST = """Lists what can be chosen: as tables on a terminal, as tab-separated lines elsewhere.

examples:
  metaloop list                       everything
  metaloop list algorithms            for metaloop train algorithm=...
  metaloop list algorithm/rule        any group of the configuration
  metaloop list experiments finn      names that begin so
  metaloop list models --config-dir conf
  metaloop list experiments | cut -f1"""

DATA = """Shows which data sets are here (status), downloads missing or damaged ones (get), or reads them completely (verify).

examples:
  metaloop data status
  metaloop data get omniglot
  metaloop data verify omniglot --data-dir data"""

DOCTOR = """Prints what a bug report needs: versions, processor, GPUs, memory, disk, compiler, threads, data sets, extras,
the state of Weights & Biases, and launchers. Something missing is reported but is not an error.

examples:
  metaloop doctor
  metaloop doctor --json > doctor.json"""

NEW = """Writes a package with a learner, its config and its test into the current folder. All three work as they are: change
the learner to what you need. docs/adding.md explains learners, models, data sets and comparisons.

examples:
  metaloop new learner my_learner
  metaloop train --config-dir conf algorithm=my_learner
  python -m pytest test_my_learner.py"""

COMPLETION = """Prints a script with which a shell completes commands, groups, options, keys and runs.

examples:
  source <(metaloop completion bash)                        for this shell; put the line into ~/.bashrc for all
  source <(metaloop completion zsh)                         put it into ~/.zshrc, after compinit
  metaloop completion fish > ~/.config/fish/completions/metaloop.fish"""

WANDB = """Sends runs that logger=wandb logged offline to Weights & Biases. Nothing is sent twice. A run that was killed and
resumed is one run there.

examples:
  metaloop wandb sync --dry-run            what would be sent of all runs under outputs
  metaloop wandb sync
  metaloop wandb sync outputs/sweeps/five_choices"""


class Parser(argparse.ArgumentParser):
    """Parser that raises a `UserError` in the place of printing its usage and ending the process."""

    def error(self, message: str) -> NoReturn:
        """Raise ``message`` as a UserError."""
        raise UserError(f"{self.prog.removeprefix('metaloop ')}: {message}; see {self.prog} --help")


def parser(command: str, text: str) -> argparse.ArgumentParser:
    """Make the parser of a command from its help text."""
    about, _, examples = text.partition("\n\n")
    return Parser(
        prog=f"metaloop {command}",
        description=about,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
