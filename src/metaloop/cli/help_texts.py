"""What ``--help`` says. In the commands' texts the first paragraph is what it does, the rest are examples."""

import argparse

TOP = """usage: metaloop COMMAND ...

Meta-learning experiments: a run is composed from configuration, leaves a record, and records become reports.

commands:
  train       meta-train and meta-test; one configuration in, one run directory out
  sweep       many runs as one: started again it goes on with what is not done
  evaluate    meta-test a finished run, as it was or with other episodes or data
  predict     adapt a finished run to your own labelled texts, pictures or table, and predict
  inspect     what adaptation does in a finished run: rapid learning or feature reuse
  report      tables and plots from the records of runs
  compare     two runs, episode by episode
  reproduce   papers' experiments: published numbers beside measured ones
  list        the algorithms, models, data sets, experiments and sweeps to choose from
  data        data sets that are downloaded: status, get, verify
  doctor      this machine and installation, for a bug report
  wandb       send what was logged offline to Weights & Biases: sync

examples:
  metaloop train                                    the embedded default; needs no download
  metaloop train algorithm=anil episode=5w5s        another algorithm, five shots
  metaloop train -m algorithm=maml,fomaml seed=0,1  a sweep of four runs
  metaloop report outputs/*/*                       one page over all runs

metaloop COMMAND --help says more; metaloop --version names the version.
exit status: 0 done, 2 what was asked for cannot work, 1 a fault of metaloop, 130 stopped by Ctrl-C"""

TRAIN = """usage: metaloop train [GROUP=OPTION ...] [KEY=VALUE ...] [-m] [--config-dir DIR] [resume=DIR|auto]

Meta-trains, meta-tests the best checkpoint and writes everything into one run directory under outputs/.

examples:
  metaloop train                                            the default: MAML, Conv-4, letters from fonts
  metaloop train algorithm=metasgd algorithm.steps=5        another preset with five inner steps
  metaloop train algorithm/meta_gradient=first_order        one choice of the composition changed
  metaloop train dataset=omniglot dataset.split_scheme=vinyals episode=20w1s
  metaloop train trainer=gpu trainer.max_steps=30000 logger=wandb
  metaloop train -m algorithm=maml,anil,boil seed=0,1,2     a sweep: nine runs
  metaloop train resume=outputs/maml_glyphs/2026-01-31_12-00-00-000000
  metaloop train resume=auto                                go on with the unfinished run of this configuration
  metaloop train --config-dir conf model=mine               a model of your own, from your own package

options:
  -m, --multirun       several values of a key are runs of a sweep; see metaloop sweep --help for its options
  --config-dir DIR     a further folder of configuration groups
  --cfg job            print the composed configuration instead of running
  --info defaults      print where each part of it comes from
  --hydra-help         Hydra's further options

metaloop list shows what can be chosen. python -m metaloop.runs.start takes the same words, and with Hydra's
--shell-completion it completes groups, options and keys in the shell: python -m metaloop.runs.start --hydra-help"""

SWEEP = """Runs every combination that conf/sweep/NAME.yaml or the overrides name, side by side. Given again, the command
skips what is done, resumes what was cut off and retries what failed.

examples:
  metaloop sweep five_choices                       MAML with one of its five choices changed at a time
  metaloop sweep five_choices --dry-run             what would run, and for how long
  metaloop sweep five_choices dataset=omniglot seed=0,1,2 trainer=gpu --per-gpu 2
  metaloop train -m algorithm=maml,anil seed=0,1    a sweep without a file
  metaloop sweep sinusoid_search search.trials=60   a search: Optuna chooses the runs
  metaloop sweep status five_choices                how its runs fare; without a name: all sweeps
  metaloop sweep show five_choices 3                one run, with the end of its log
  metaloop sweep retry five_choices 3               let what failed too often be tried again
  metaloop sweep cancel five_choices                stop it, also from another terminal
  metaloop sweep list                               the sweeps of the configuration
  metaloop sweep five_choices hydra/launcher=submitit_slurm hydra.launcher.partition=gpu"""

EVALUATE = """usage: metaloop evaluate run=DIR [GROUP=OPTION ...] [KEY=VALUE ...] [--config-dir DIR]

Meta-tests the best checkpoint of a finished run, as it was or otherwise, and writes the result under DIR/evaluations/.

examples:
  metaloop evaluate run=outputs/maml_glyphs/2026-01-31_12-00-00-000000
  metaloop evaluate run=DIR episode.shots=5 evaluation.episodes=2000
  metaloop evaluate run=DIR algorithm.eval_steps=10         more inner steps than in training
  metaloop evaluate run=DIR dataset=omniglot                another data set
  metaloop evaluate run=DIR dataset=omniglot_challenge      the one-shot task of Lake et al.: the error rate"""

PREDICT = """usage: metaloop predict run=DIR support=FILE query=FILE [KEY=VALUE ...]
       metaloop predict model=DIR query=FILE [KEY=VALUE ...]

Adapts the best checkpoint of a finished run to your own few labelled examples (support) and predicts others (query). Files are
prepared as the run's data set prepared its own examples. Any number of classes and of examples of each.

texts       CSV, TSV, JSON or JSON lines with the columns text and label; a query also .txt, one text a line
pictures    a folder or zip archive, one folder a class; or a CSV file with the columns path and label. A query's pictures may
            lie in no folders
tables      CSV with a column label (a class, or the number to predict); all other columns are numbers, or empty

Labels of a query are optional, and only scored. Predictions are written to predictions.csv, and what was used to
predictions.json beside it, in a folder of their own below DIR/predictions/, or where out= says.

examples:
  metaloop predict run=outputs/prototypes_text_files/2026-01-31_12-00-00-000000 support=five_each.csv query=new.csv
  metaloop predict run=DIR support=intents.csv text=question label=intent query=questions.txt out=answers.csv
  metaloop predict run=DIR support=flowers.zip query=holiday/ save=my_flowers    keeps the adapted model
  metaloop predict model=my_flowers query=garden/                                uses it, without run and support
  metaloop predict run=DIR support=measured.csv query=new.csv label=price steps=20

keys:
  run=DIR        a finished run; needs support=
  model=DIR      an adapted model that save= kept
  support=FILE   labelled examples to adapt to
  query=FILE     examples to predict; may be left out with save=
  text=, path=, label=NAME   what the files call their columns (default: text, path, label)
  steps=N        inner steps (default: those of the run's meta-test)
  out=FILE       where predictions are written, a .csv file; replaced where it exists
  save=DIR       keep the adapted model in this new folder"""

INSPECT = """Shows what adaptation does in a finished run: how far parameters and representations move by layer, losses, what
the head's and the body's adaptation are each worth, accuracy by class. Writes a page, pictures and data into
DIR/inspection/.

examples:
  metaloop inspect outputs/maml_glyphs/2026-01-31_12-00-00-000000
  metaloop inspect DIR --episodes 200            narrower intervals
  metaloop inspect DIR --steps 10                more inner steps than in the meta-test"""

REPORT = """Writes one self-contained page over runs: tables of any keys, curves, main effects and interactions,
ranks, cost, paired differences, failures; and the tables as Markdown, CSV and LaTeX, the figures as PNG.

examples:
  metaloop report outputs/maml_glyphs/2026-01-31_12-00-00-000000
  metaloop report outputs/*/*                    all runs of this folder
  metaloop report outputs/a outputs/b --output docs/comparison
  metaloop report outputs/sweeps/grid --rows algorithm --columns algorithm.steps,dataset --baseline algorithm=maml
  metaloop report outputs/sweeps/grid --rows algorithm/rule --over algorithm.steps --where dataset=omniglot"""

REPRODUCE = """Says which papers' numbers are reproduced by the tolerance that their experiments declare, by how much
the others are off and which were not run, and writes docs/results.md. Named experiments are run where they have no record.

examples:
  metaloop reproduce                                        only look, and write the page
  metaloop reproduce finn2017_maml_sinusoid_5shot --seeds 3
  metaloop reproduce finn2017_maml_omniglot_5w1s trainer=gpu
  metaloop reproduce --check                                exit status 1 where the page and the records disagree"""

COMPARE = """Compares two runs over the same meta-test episodes: the difference with its interval, the episodes where
they disagree most, and what differs in their configs.

examples:
  metaloop compare outputs/maml_glyphs/A outputs/anil_glyphs/B
  metaloop compare A B --output docs/maml_and_anil
  metaloop compare A A/evaluations/0a1b2c3d4e5f             a run with a later evaluation of it"""

LIST = """Lists what can be chosen: tables on a terminal, tab-separated lines elsewhere.

examples:
  metaloop list                       everything
  metaloop list algorithms            for metaloop train algorithm=...
  metaloop list models --config-dir conf
  metaloop list experiments | cut -f1"""

DATA = """Says what is downloaded (status), downloads what is missing or damaged (get), reads it to the end (verify).

examples:
  metaloop data status
  metaloop data get omniglot
  metaloop data verify omniglot --data-dir data"""

DOCTOR = """Says what a bug report needs: versions, processor, GPUs, memory, disk, compiler, threads, data sets, extras,
the state of Weights & Biases, and launchers. What is missing is said and is no error.

examples:
  metaloop doctor
  metaloop doctor --json > doctor.json"""

WANDB = """Sends the runs that logger=wandb logged offline to Weights & Biases. What was sent is not sent again; a run that was
killed and resumed is one run there.

examples:
  metaloop wandb sync --dry-run            what would be sent of all runs under outputs
  metaloop wandb sync
  metaloop wandb sync outputs/sweeps/five_choices"""


def parser(command: str, text: str) -> argparse.ArgumentParser:
    """The parser of a command whose help is this text."""
    about, _, examples = text.partition("\n\n")
    return argparse.ArgumentParser(
        prog=f"metaloop {command}",
        description=about,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
