"""USL-T: features and clusters learned together, then one row of each cluster.

torch is loaded when a selection begins, not when this file is imported.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from usl_backend.errors import SelectionError
from usl_backend.selection.base import Selection
from usl_backend.selection.ordering import order_picks
from usl_backend.selection.picking import cluster_argmax, fill, stand_in
from usl_backend.selection.rows.centrality import cluster_means, distance_to_mean, smooth
from usl_backend.selection.rows.density import density
from usl_backend.selection.rows.duplicates import same_rows
from usl_backend.selection.rows.kmeans import kmeans
from usl_backend.selection.rows.neighborhood import cut, neighbor_count, neighborhood, searched
from usl_backend.selection.rows.neighbors import nearest_neighbors
from usl_backend.selection.rows.preparation import check_budget, check_embeddings, fit_projection, generator
from usl_backend.selection.rows.threads import one_thread
from usl_backend.selection.uslt.clusters import BINS, Answers, agreement, split_largest, without_held
from usl_backend.selection.uslt.presets import USLTParameters

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.progress import Progress
    from usl_backend.selection.base import Checkpoint, Neighbors
    from usl_backend.selection.rows.duplicates import Groups
    from usl_backend.selection.rows.preparation import Projection
    from usl_backend.selection.uslt.trainers import Trainer
    from usl_backend.selection.uslt.training import History


@dataclass(frozen=True, kw_only=True)
class USLT(USLTParameters):
    """USL-T: cluster heads, and the features below them, are trained without labels; then each cluster gives a pick.

    Parameters
    ----------
    preset
        "paper-cifar10", "paper-cifar100", "paper-imagenet100" or "paper-imagenet": the paper's settings, over
        which single options are laid; None for the defaults below.
    projection : int >= 0, default 128
        Principal components kept after centring when there are more dimensions; 0 = leave rows as they are.
    neighbors : int >= 1 or "auto", default "auto"
        Nearest neighbors that density and smoothing look at; 'auto' = half the rows per pick, 2 to 20.
    smoothing : bool, default True
        Cluster rows averaged with their neighbors instead of the rows themselves.
    near_duplicates : float >= -1, default 0.01
        Squared distance up to which rows count as near-duplicates; 0 = equal rows only, -1 = never.
    workers : int >= 1, default 1
        Compute threads; no influence on the result.
    mode : {"heads", "finetune"}, default "heads"
        The trained part: 'heads' = cluster heads and a small projection on the embeddings (minutes on a CPU),
        'finetune' = the encoder too, on the pictures (made for a GPU).
    clusters : int >= 0, default 0
        Clusters to learn; 0 = as many as picks.
    heads : int in [1, 16], default 3
        Cluster heads that are trained side by side.
    head_kind : {"normed", "linear"}, default "normed"
        'normed' = cosine times 40, without bias; 'linear' = plain linear layer with bias.
    head_start : {"k-means", "instances", "random"}, default "k-means"
        Start of the heads: 'k-means' = at the means of clusters, 'instances' = at distinct random rows,
        'random' = at random weights.
    hidden : int >= 0, default 128
        Width of the residual layer that learns features in mode 'heads'; 0 = learn heads only.
    epochs : int >= 0, default 15
        Passes of the training over the pool.
    batch : int >= 0, default 0
        Rows per step of the optimiser; 0 = a tenth of the pool, at least 256.
    micro_batch : int >= 2, default 64
        Pictures per forward pass in mode 'finetune'; gradients add up to a batch.
    learning_rate : float >= 0, default 0.0003
        Step size of Adam.
    weight_decay : float >= 0, default 0.0001
        Weight decay of Adam.
    noise_weak : float >= 0, default 0.0
        Length of the noise added to a unit-length row in the weak view (mode 'heads').
    noise_strong : float >= 0, default 1.0
        Length of the noise added to a unit-length row in the strong view (mode 'heads').
    dropout : float in [0, 0.95], default 0.5
        Share of the dimensions left out of the strong view (mode 'heads').
    local_weight : float >= 0, default 5.0
        Weight of the local loss: neighbors belong to one cluster.
    local_clusters : int >= 0, default 4
        Fewest clusters with which the local loss counts; it makes two or three of them uneven.
    global_weight : float >= 0, default 1.0
        Weight of the global loss: both views of a row belong to one cluster.
    temperature : float in [0.01, 1], default 0.5
        Temperature of a neighbor's cluster probabilities: 1 = as they are, lower = sharper.
    adjustment : float >= 0, default 2.5
        Strength of the correction that keeps clusters from growing at the cost of others.
    threshold : float in [0, 1], default 0.0
        Probability that the weak view must exceed to count in the global loss.
    balance : {"renormalised", "reweight", "none"}, default "renormalised"
        Weight of clusters in the global loss: 'reweight' = 1 / share of the batch, 'renormalised' = the same
        divided by the number of clusters seen, 'none' = equal rows.
    mean_outside_mask : bool, default True
        Divide the global loss by all rows of the batch, not only by those above the threshold.
    reseed_floor : float >= 0, default 0.2
        Running size, in mean cluster sizes, below which a cluster starts anew; 0 = never.
    reseed_ceiling : float >= 0, default 1.6
        Running size, in mean cluster sizes, of the largest cluster above which others start anew.
    reseed_after : int >= 0, default 2
        Epochs before a cluster may start anew.
    pick_by : {"center", "confidence"}, default "center"
        Row picked in a cluster: nearest to its 'center', or of the largest softmax 'confidence'.
    confidence : {"first", "mean"}, default "first"
        Confidence of a row: the 'first' head's, or the 'mean' of all heads.
    checkpoint
        Keeps the training after every epoch; a selection of the same rows and seed goes on from there.
    trainer
        Trains on something else than the embeddings. Mode "finetune" needs a `finetuning.PictureTrainer`, which
        brings the encoder and the pictures.

    Raises
    ------
    SettingsError
        Unknown preset (the nearest known name is suggested), or a value of another type or out of bounds.

    Notes
    -----
    Source: section 3.4 of Wang, Lian, Yu (ECCV 2022) and their code. A local loss keeps a row in the cluster of its
    nearest neighbors, a global loss keeps its two views in one cluster; the row of the largest softmax confidence in
    each cluster of the first head is picked.

    Differs, in the default:

    - the encoder stays as it is; features are learned by a residual layer on its embeddings, which are centred,
      projected to at most 128 principal components and brought to unit length. Noise and dropped dimensions
      stand in for augmented pictures (`mode="finetune"` trains the encoder on pictures);
    - heads are trained on rows averaged with their neighbors and start at the means of k-means clusters, those of
      `USL`: training refines a good start. The paper's start and step size lose to it (`--ablation` of
      `benchmarks/selection_quality.py`);
    - the row nearest to the mean of its learned cluster is picked; on digits the surest one was worse;
      `pick_by="confidence"` is the paper's;
    - with fewer than four clusters the local loss is left out: it made two or three of them uneven;
    - 150 steps at most, whatever the pool: longer training empties clusters;
    - near-duplicates count as one row;
    - picks come in an order in which every prefix is a selection of its own (`ordering.py`).

    Differs, always: exactly `budget` picks. Clusters that end empty are filled by halving the largest ones, where
    the official code crashes; with more clusters than picks the first of the order remain. Rare clusters start
    anew at a row of the largest. Floor and ceiling of that count in mean cluster sizes, because the paper's are
    rows of ImageNet. Clusters with a row named in `labeled` are passed over, and that row is never picked. Rows named
    in `excluded` take part in the training like all others, and another row of their cluster is picked.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.random.default_rng(0).normal(size=(500, 16)).astype(np.float32)
    >>> USLT(epochs=2).select(rows, 10, rng=0).indices.shape
    (10,)
    """

    checkpoint: Checkpoint | None = field(default=None, repr=False, compare=False)
    trainer: Trainer | None = field(default=None, repr=False, compare=False)

    @property
    def trains_on(self) -> Literal["embeddings", "pictures"]:
        """Input of the training: pictures in mode "finetune", else embeddings."""
        return "pictures" if self.mode == "finetune" else "embeddings"

    def with_training(self, *, checkpoint: Checkpoint | None = None, trainer: Trainer | None = None) -> USLT:
        """Return the same method with this checkpoint and this trainer."""
        return replace(self, checkpoint=checkpoint, trainer=trainer)

    def select(
        self,
        embeddings: NDArray[np.floating[Any]],
        budget: int,
        *,
        rng: int | np.random.Generator,
        labeled: NDArray[np.int64] | None = None,
        excluded: NDArray[np.int64] | None = None,
        projection: Projection | None = None,
        neighbors: Neighbors | None = None,
        progress: Progress | None = None,
    ) -> Selection:
        """Train, then choose `budget` rows.

        Parameters
        ----------
        embeddings : (n, d) float16, float32 or float64
            Finite; any memory layout; may be memory-mapped.
        budget
            Picks, 1 to the number of rows that are neither labeled nor excluded.
        rng
            Seed or generator: the same seed gives the same picks on the same machine, also after a resume.
        labeled : (l,) int64 or None
            Rows that have labels already: their clusters are passed over, and they are never picked.
        excluded : (e,) int64 or None
            Rows that are never picked; otherwise rows of the pool like all others.
        projection
            Result of `fit` on these embeddings; found here when None.
        neighbors
            Result of `search` on these embeddings; searched here when None.
        progress
            Called as `progress(step, done, total)`; the step "train" counts steps of the optimiser.

        Returns
        -------
        Selection
            `score` is the density: higher = more typical. `diagnostics["training"]` has what came of it.

        Raises
        ------
        SelectionError
            Input that no selection can be made from, or a training that broke off; the message names the value.
        """
        check_embeddings(embeddings)
        budget, held, barred = check_budget(budget, n=len(embeddings), labeled=labeled, excluded=excluded)
        trainer = self.trainer
        if trainer is None:
            if self.trains_on == "pictures":
                raise SelectionError(
                    'mode is "finetune", which trains on pictures, but only embeddings were given; '
                    'choose mode="heads", or give a PictureTrainer as trainer'
                )
            from usl_backend.selection.uslt.trainers import EmbeddingTrainer

            trainer = EmbeddingTrainer()
        run = _Run(self, generator(rng), progress, self.checkpoint, trainer)
        with one_thread():
            return run.select(embeddings, budget, held, barred, projection, neighbors)

    def fit(self, embeddings: NDArray[np.floating[Any]]) -> Projection:
        """Find the projection of `search` and `select`, to compute it once and pass it to both."""
        check_embeddings(embeddings)
        with one_thread():
            return fit_projection(embeddings, dimensions=self.projection)

    def search(
        self,
        embeddings: NDArray[np.floating[Any]],
        *,
        projection: Projection | None = None,
        progress: Progress | None = None,
    ) -> Neighbors | None:
        """Find the neighbors that `select` would search on the same embeddings, to keep them and pass them in.

        `projection` is the result of `fit`. None where there is a single row.
        """
        if len(embeddings) < 2:
            return None
        return nearest_neighbors(
            self.prepare(embeddings, projection=projection),
            k=searched(self.neighbors),
            workers=self.workers,
            progress=progress,
        )

    def prepare(
        self, embeddings: NDArray[np.floating[Any]], *, projection: Projection | None = None
    ) -> NDArray[np.float32]:
        """Project rows as `select` does, to (n, p) of unit length."""
        if projection is None:
            check_embeddings(embeddings)
            projection = fit_projection(embeddings, dimensions=self.projection)
        return projection.apply(embeddings)


@dataclass(frozen=True)
class _Found:
    """Clusters to pick from, one per pick or more, and the utility of each row in its own."""

    labels: NDArray[np.int32]
    utility: NDArray[np.float64]
    answers: Answers | None
    history: History | None


class _Run:
    """One selection: the steps of `USLT.select` and what they share."""

    def __init__(
        self,
        p: USLTParameters,
        rng: np.random.Generator,
        progress: Progress | None,
        checkpoint: Checkpoint | None,
        trainer: Trainer,
    ) -> None:
        self.p, self.rng, self.progress = p, rng, progress
        self.checkpoint, self.trainer = checkpoint, trainer

    def report(self, step: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(step, done, total)

    def select(
        self,
        embeddings: NDArray[Any],
        budget: int,
        held: NDArray[np.int64],
        barred: NDArray[np.int64],
        projection: Projection | None,
        given: Neighbors | None,
    ) -> Selection:
        p = self.p
        self.report("projecting rows", 0, 1)
        projection = projection or fit_projection(embeddings, dimensions=p.projection)
        rows = projection.apply(embeddings)
        self.report("projecting rows", 1, 1)
        around = neighborhood(
            rows, k=searched(p.neighbors), radius=p.near_duplicates, enough=budget + len(held) + len(barred),
            held=held, given=given, workers=p.workers, progress=self.progress,
        )  # fmt: skip
        groups, leaders, near = around.groups, around.leaders, around.neighbors
        clusters = min(p.clusters or budget + len(held), len(leaders))
        if near is not None:
            near = cut(near, neighbor_count(p.neighbors, rows=len(leaders), clusters=clusters))
        place = groups.member_of[held]
        speakers = groups.speakers(barred)
        typicality = (
            np.ones(len(leaders), np.float32) if near is None else density(near.distances, floor=1e-3)
        )
        # Clusters start, and are halved, where noise is averaged out, whatever the heads are trained on.
        points = leaders if near is None else smooth(leaders, near.indices, workers=p.workers)
        found = self.learn(groups, leaders, points, near, clusters, place, projection)
        picks, labels, notes = self.pick(
            leaders, points, found, place, np.flatnonzero(speakers < 0), budget, clusters
        )
        order, gain = self.order(leaders, labels, picks)
        order, gain = order[:budget], gain[:budget]
        chosen = picks[order]
        position = np.full(max(len(picks), int(labels.max()) + 1), -1, dtype=np.int32)
        position[order] = np.arange(budget, dtype=np.int32)
        cluster = stand_in(leaders, position[labels], chosen)
        cluster[chosen] = np.arange(budget, dtype=np.int32)
        return Selection(
            indices=speakers[chosen],
            gain=gain,
            score=typicality.astype(np.float32)[groups.member_of],
            cluster=cluster[groups.member_of],
            parameters={"method": p.name, **p.values()},
            diagnostics={
                "neighbors": near.indices.shape[1] if near is not None else 0,
                "neighbors_exact": near.exact if near is not None else True,
                "near_duplicate_rows": int(len(rows) - len(leaders)),
                "near_duplicate_groups": groups.shared,
                "near_duplicates": groups.listing(),
                "zero_rows": int((~rows.any(axis=1)).sum()),
                "training": self.told(found, clusters, near) | notes,
            },
        )

    def learn(
        self,
        groups: Groups,
        leaders: NDArray[np.float32],
        points: NDArray[np.float32],
        near: Neighbors | None,
        clusters: int,
        held: NDArray[np.int64],
        projection: Projection,
    ) -> _Found:
        """Train the heads and ask them; a single cluster, or rows without neighbors, leave nothing to learn."""
        if near is None or clusters < 2 or not leaders.any():
            return _Found(np.zeros(len(leaders), np.int32), np.zeros(len(leaders)), None, None)
        start = [self.start(leaders, points, groups, clusters, held) for _ in range(self.p.heads)]
        indices = np.concatenate(
            [np.arange(len(leaders), dtype=np.int64)[:, None], near.indices.astype(np.int64)], axis=1
        )
        answers, history = self.trainer.train(
            points if self.p.smoothing else leaders, groups.leaders, indices,
            projection=projection, start=start, clusters=clusters, parameters=self.p,
            seed=int(self.rng.integers(2**62)), checkpoint=self.checkpoint,
            report=lambda done, total: self.report("training", done, total),
        )  # fmt: skip
        heads = self.p.heads if self.p.confidence == "mean" else 1
        return _Found(answers.clusters[0], answers.sureness(heads=heads), answers, history)

    def start(
        self,
        leaders: NDArray[np.float32],
        points: NDArray[np.float32],
        groups: Groups,
        clusters: int,
        held: NDArray[np.int64],
    ) -> NDArray[np.float32] | None:
        """Find directions (clusters, d) that a head starts at; None = random weights."""
        if self.p.head_start == "random":
            return None
        if self.p.head_start == "instances":
            return leaders[self.rng.choice(len(leaders), clusters, replace=False)]
        fixed = points[held] if len(held) and clusters > len(held) else None
        moving = clusters - (0 if fixed is None else len(held))
        weights = groups.weights() if len(groups.leaders) < len(groups.member_of) else None
        found = kmeans(
            points, clusters=moving, rng=self.rng, weights=weights, fixed=fixed, workers=self.p.workers,
            progress=self.progress,
        )  # fmt: skip
        return found.centers.astype(np.float32)

    def pick(
        self,
        leaders: NDArray[np.float32],
        points: NDArray[np.float32],
        found: _Found,
        held: NDArray[np.int64],
        barred: NDArray[np.int64],
        budget: int,
        clusters: int,
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], dict[str, Any]]:
        """Pick one row per cluster that no labeled row holds, at least `budget` of them."""
        labels, used = without_held(found.labels, held=held, clusters=clusters)
        count = max(used, budget)
        labels[labels == used] = count
        # The rest of held clusters is cut up only where most of the pool went there.
        splittable = np.append(np.ones(count, dtype=bool), used < budget / 2)
        missing = np.arange(used, count)
        labels, changed = split_largest(labels, points, empty=missing, splittable=splittable, rng=self.rng)
        split = int(np.isin(missing, labels).sum())
        utility = found.utility.copy()
        # Half a cluster has its surest row where the whole has it: nearest to its own mean instead.
        apart = changed[labels]
        if self.p.pick_by == "center" or found.answers is None:
            apart[:] = True
        means, _ = cluster_means(leaders, labels, clusters=count + 1)
        utility[apart] = -distance_to_mean(leaders, labels, means=means)[apart]
        allowed = np.ones(len(leaders), dtype=bool)
        allowed[held] = allowed[barred] = False
        utility[~allowed] = -np.inf
        picks = cluster_argmax(np.where(labels < count, utility, -np.inf), labels, clusters=count)
        copies = np.ones(len(leaders), dtype=bool)
        copies[same_rows(leaders, preferred=picks[picks >= 0]).leaders] = False
        # The one cluster of all that is held has its pick already, or it would be given one.
        every = np.append(picks, held[:1])
        every, labels, filled = fill(every, labels, utility, allowed=allowed, repeats=copies)
        return every[:count], labels, {"split": split, "filled": filled}

    def order(
        self, rows: NDArray[Any], labels: NDArray[np.int32], picks: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Order the picks; return the order and their gains."""
        means, mass = cluster_means(rows, labels, clusters=max(len(picks), int(labels.max()) + 1))
        able = np.flatnonzero(picks >= 0)  # with few rows that may be picked, some clusters have none
        order, gain = order_picks(
            means[able], weights=mass[able], picks=rows[picks[able]], rng=self.rng, progress=self.progress
        )
        return able[order], gain

    def told(self, found: _Found, clusters: int, near: Neighbors | None) -> dict[str, Any]:
        """Describe the outcome of the training, JSON-able."""
        if found.answers is None or found.history is None:
            return {"trained": False, "warnings": ["there was nothing to learn clusters from"]}
        sizes = np.bincount(found.labels, minlength=clusters)
        in_use = int((sizes > 0).sum())
        heads = self.p.heads if self.p.confidence == "mean" else 1
        confidence = found.answers.confidence(heads=heads)
        histogram, _ = np.histogram(confidence, bins=BINS, range=(0.0, 1.0))
        warnings = []
        if in_use < clusters / 2:
            warnings.append(
                f"the heads use {in_use} of {clusters} clusters; the largest were halved until there were enough. "
                "A start from k-means, more adjustment or a lower learning_rate keeps clusters apart"
            )
        if self.p.local_weight > 0.0 and not self.p.local_weight_for(clusters):
            warnings.append(
                f"the local loss was left out, because there were only {clusters} clusters; local_clusters=0 keeps it"
            )
        if near is not None and self.p.neighbors != "auto" and near.indices.shape[1] < self.p.neighbors:
            warnings.append(
                f"{self.p.neighbors} neighbors were asked for, but a row has {near.indices.shape[1]} others"
            )
        return {
            "trained": True,
            "clusters": clusters,
            "clusters_in_use": in_use,
            "largest_over_mean": round(float(sizes.max() * clusters / sizes.sum()), 3),
            "confidence_histogram": histogram.tolist(),
            "agreement": agreement(found.answers.clusters),
            "local_loss": found.history.local_loss,
            "global_loss": found.history.global_loss,
            "reseeded": found.history.reseeded,
            "resumed_from": found.history.resumed_from,
            "warnings": warnings,
        }
