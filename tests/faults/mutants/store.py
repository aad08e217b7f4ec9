"""Faults in the store: its files, manifests, archives, and how stored runs are read."""

from tests.faults.mutants.fault import Fault

STORE, MANIFEST, ARCHIVE = "vitlib/runs/store.py", "vitlib/runs/manifest.py", "vitlib/runs/archive.py"
OF_STORE = ("tests/runs/test_order_of_writing.py", "tests/runs/test_store.py", "tests/runs/test_execute.py")
OF_READING = ("tests/runs/test_store.py", "tests/runs/reading")
OF_ARCHIVES = ("tests/runs/test_archives.py", "tests/studies/test_travel.py", "tests/faults/malice/test_hostile_files.py")

FAULTS = [
    Fault(
        "a file is not synced before the rename",
        "a power cut leaves a run in its place with empty files",
        "vitlib/durable.py",
        "        stream.flush()\n        os.fsync(stream.fileno())\n",
        "        stream.flush()\n",
        OF_STORE,
    ),
    Fault(
        "the store's folder is synced before the rename",
        "a power cut takes back a run that was said to be stored",
        STORE,
        '        aside.rename(self.root / aside.name.partition("~")[0])\n        durable.sync(self.root)\n',
        '        durable.sync(self.root)\n        aside.rename(self.root / aside.name.partition("~")[0])\n',
        OF_STORE,
    ),
    Fault(
        "the old result leaves before the new one is written",
        "a kill while a run is computed again leaves neither result",
        STORE,
        """            aside.mkdir(parents=True)
            for name""",
        """            aside.mkdir(parents=True)
            if (self.root / run_id).is_dir():
                (self.root / run_id).rename(self._aside(run_id, FORMER))
            for name""",
        OF_STORE,
    ),
    Fault(
        "names are compared with the manifest, checksums are not",
        "changed bytes are shown as results",
        MANIFEST,
        "    if manifest != manifest_of(digests) or not all(digests.values()):",
        "    if (json_table(manifest) or {}).keys() != digests.keys():",
        OF_READING,
    ),
    Fault(
        "weights that are not kept are taken for what the manifest says",
        "a run is called whole whose weights changed",
        MANIFEST,
        '{name: taken_from(folder / name, digest_of) or "" for name in unread & names}',
        '{name: (json_table(found.get(MANIFEST, b"")) or {}).get(name, "") for name in unread & names}',
        OF_READING,
    ),
    Fault(
        "a file that is read late is not compared",
        "changed bytes are shown as results",
        "vitlib/runs/reading/stored.py",
        "if content is not None and hashlib.sha256(content).hexdigest() == digest:",
        "if content is not None:",
        OF_READING,
    ),
    Fault(
        "a run in the folder of another is accepted when nobody says which was asked for",
        "the numbers of one run are shown under the name of another",
        MANIFEST,
        "    if not named or not (asked is None",
        "    if not (asked is None",
        OF_READING,
    ),
    Fault(
        "a longer list agrees with its beginning",
        "a stored run of other settings is taken for the one that was asked for",
        "vitlib/dumped.py",
        "isinstance(dumped, list) and len(dumped) == len(asked) and all(map(agrees, dumped, asked))",
        "isinstance(dumped, list) and all(map(agrees, dumped, asked))",
        ("tests/runs/reading", "tests/house/test_spec.py"),
    ),
    Fault(
        "the identity of an imported run is computed and not compared",
        "an edited description with its manifest redone comes into the store",
        ARCHIVE,
        '    if found != run_id:\n        raise StoreError(f"archive {archive}: the spec.json',
        '    if not found:\n        raise StoreError(f"archive {archive}: the spec.json',
        OF_ARCHIVES,
    ),
    Fault(
        "an archive holds runs in the order in which they were asked for",
        "the same results make another archive each time",
        ARCHIVE,
        "            for run_id in sorted(run_ids):\n",
        "            for run_id in run_ids:\n",
        OF_ARCHIVES,
    ),
    Fault(
        "arrays may grow up to the smaller of two limits",
        "an archive is refused whose arrays are mostly zeros",
        ARCHIVE,
        "    if unpacked > max(LARGEST, SWOLLEN * size):",
        "    if unpacked > min(LARGEST, SWOLLEN * size):",
        OF_ARCHIVES,
    ),
    Fault(
        "archives with and without weights are swapped",
        "an archive that should have weights has none",
        ARCHIVE,
        "set() if with_weights else {WEIGHTS}",
        "{WEIGHTS} if with_weights else set()",
        OF_ARCHIVES,
    ),
    Fault(
        "what follows the end of an archive is passed over",
        "two archives written behind one another are taken for the first, without a word",
        ARCHIVE,
        "    if not decompressor.eof or decompressor.unused_data:",
        "    if not decompressor.eof:",
        OF_ARCHIVES,
    ),
    Fault(
        "checkpoints of runs that are not stored are swept",
        "an interrupted training begins anew",
        STORE,
        "if mine and name in self and not self.failure(name):",
        "if mine and not self.failure(name):",
        OF_STORE,
    ),
    Fault(
        "what a killed writer left is put into its place without a look",
        "a half-written run is taken for a stored one",
        STORE,
        "if run_id not in self and is_whole(path):",
        "if run_id not in self:",
        OF_STORE,
    ),
    Fault(
        "a transposed weight is written in the order of its memory",
        "a child starts from scrambled weights",
        STORE,
        'np.asarray(array, order="C")',
        'np.asarray(array, order="K")',
        OF_STORE,
    ),
    Fault(
        "a damaged run counts as computed again because its folder is there",
        "a run that is found to be damaged while it is shown is not computed again",
        "vitlib/runs/reading/damage.py",
        "return store.read(run_id, specs[run_id])",
        "return store.open(run_id, specs[run_id])",
        OF_READING,
    ),
    Fault(
        "a copy of settings is kept by the names of what it changes",
        "the second of two settings gives the results of the first",
        "vitlib/spec.py",
        "        key = repr(fields)\n",
        "        key = repr(sorted(fields))\n",
        ("tests/house/test_spec.py",),
    ),
    Fault(
        "a checkpoint's checksum is not compared",
        "a damaged checkpoint ends a run, or is trained on",
        "vitlib/training/loop.py",
        "        if hashlib.sha256(raw[32:]).digest() != raw[:32]:\n",
        "        if not raw[:32]:\n",
        ("tests/runs/test_kills.py",),
    ),
]
