"""The tables of a fleet. Delta, reader version 1, under ``<root>/tables/``."""

from __future__ import annotations

from schemas.contract import Column, Contract

SHARD = Column("shard", "int", "pmod(xxhash64(group_key), shards)", nullable=False)
GROUP_KEY = Column("group_key", "string", "canonical JSON of the key columns; a parent's is an object", nullable=False)
EVENT_ID = Column(
    "event_id", "string", "the producer's id or a hash of the event, unique within a group", nullable=False
)
BATCH_ID = Column("batch_id", "bigint", "micro-batch of the writing query", nullable=False)
ROUND_ID = Column("round_id", "string", "the round this row belongs to", nullable=False)

KAFKA = (
    Column("topic", "string", "Kafka topic", nullable=False),
    Column("kafka_partition", "int", "Kafka partition", nullable=False),
    Column("kafka_offset", "bigint", "Kafka offset", nullable=False),
)

EVENTS = Contract(
    "events",
    "One row per valid, distinct event. A fleet's declared columns come after event_time.",
    (
        SHARD,
        GROUP_KEY,
        EVENT_ID,
        Column("event_time", "timestamp", "when it happened, by the producer", nullable=False),
        *KAFKA,
        Column("ingested_at", "timestamp", "the batch's timestamp"),
        Column("ingested_on", "date", "its UTC date"),
        BATCH_ID,
    ),
    partitioned_by=("ingested_on",),
)

OUTCOMES = Contract(
    "outcomes",
    "One row per distinct late label. `label` has the type of the target.",
    (
        SHARD,
        GROUP_KEY,
        EVENT_ID,
        Column("observed_at", "timestamp", "when the label became known", nullable=False),
        *KAFKA,
        Column("ingested_at", "timestamp", "the batch's timestamp"),
        BATCH_ID,
    ),
)

DEAD_LETTERS = Contract(
    "dead_letters",
    "One row per rejected record, its bytes untouched.",
    (
        Column("key", "binary", "the record's key as it came"),
        Column("value", "binary", "the record's value as it came"),
        *KAFKA,
        Column("reason", "string", "from the closed list DeadLetterReason", nullable=False),
        Column("detail", "string", "expected and got; at most 500 characters"),
        Column("field", "string", "the column concerned; null where it is the record"),
        Column("ingested_at", "timestamp", "the batch's timestamp"),
        BATCH_ID,
    ),
)

INCUMBENT = Contract(
    "incumbent",
    "One row per event that the system before the fleet had answered, loaded with the history.",
    (
        SHARD,
        GROUP_KEY,
        EVENT_ID,
        Column("prediction", "double", "its answer; a string for classification", nullable=False),
        Column("ingested_at", "timestamp", "when it was loaded"),
        BATCH_ID,
    ),
)

PREDICTIONS = Contract(
    "predictions",
    "One row per scored event. `prediction` and `label` are double for regression, string for classification.",
    (
        SHARD,
        GROUP_KEY,
        EVENT_ID,
        Column("event_time", "timestamp", "when it happened, by the producer", nullable=False),
        Column("prediction", "double", "the answer; null where nobody answered"),
        Column(
            "lower", "double", "lower end of the interval around it; null where it is unbounded, and for classification"
        ),
        Column(
            "upper", "double", "upper end of the interval around it; null where it is unbounded, and for classification"
        ),
        Column("probabilities", "map<string,double>", "class to probability; null for regression"),
        Column("label", "double", "the label, if it came inside the event"),
        Column("model_id", "string", "the model that answered; null where nobody did"),
        Column("answered_by", "string", "own, parent, global, none", nullable=False),
        *KAFKA,
        Column("scored_at", "timestamp", "the batch's timestamp", nullable=False),
        Column("scored_on", "date", "its UTC date", nullable=False),
        BATCH_ID,
    ),
    partitioned_by=("scored_on",),
)

HELDOUT_LOSSES = Column(
    "heldout_losses",
    "array<float>",
    "losses on rows that the measured model had not seen, oldest first: its own on the held-out rows, and those of its "
    "predecessors up to a fifth of the group's rows; 32 at most, spread evenly over all",
)

LOSS_NAME = Column(
    "loss_name",
    "string",
    "the loss that the losses of this row are measured by: absolute, squared or log; null in rows of an earlier "
    "version: the loss that the fleet was made with",
)

HEALTH = Contract(
    "health",
    "Sums to be added up: in each batch one row per group, model_id and interval of event time whose labels mature "
    "together. A row with a null group_key carries the newest event time of a shard, one per shard and batch.",
    (
        Column("shard", "int", "pmod(xxhash64(group_key), shards)", nullable=False),
        Column("group_key", "string", "the group; null for a tick of the clock"),
        Column("model_id", "string", "the model that answered; null where nobody did, or a label has no finite loss"),
        Column("rows", "bigint", "events answered", unit="rows"),
        Column("labelled", "bigint", "of them (or of earlier ones) whose label came", unit="rows"),
        Column("loss", "double", "sum of the fleet's loss over the labelled"),
        Column("squared_loss", "double", "sum of its square"),
        Column(
            "losses",
            "array<float>",
            "the loss of each labelled row, ascending; of 64 rows at most, spread evenly over all; null where the row "
            "of health has one labelled row or none, since `loss` is then its loss",
        ),
        Column(
            "drift",
            "array<double>",
            "for the policy drift: the predictions of these events, ascending; of classes the largest probability; of "
            "64 events at most, spread evenly over all; null for labels of earlier events",
        ),
        LOSS_NAME,
        Column("last_event_time", "timestamp", "greatest event_time of these rows: they are mature label_delay later"),
        Column("observed_on", "date", "UTC date of the batch", nullable=False),
        BATCH_ID,
    ),
    partitioned_by=("observed_on",),
    directories=("score", "labels"),
)

VERDICTS = Contract(
    "verdicts",
    "Why a group is or is not stale: a row whenever its decision or reason changes; decision `fit` is a round's plan.",
    (
        SHARD,
        GROUP_KEY,
        ROUND_ID,
        Column(
            "policy",
            "string",
            "gives the reason: new_group, no_labels, error_rise, new_rows, row_days, max_age, drift, schedule, a "
            "user's; all and asked in a batch; manual: a person's request to the stream",
        ),
        Column("decision", "string", "fit, deferred, held, refused, fresh", nullable=False),
        Column("reason", "string", "in words, with the numbers"),
        Column(
            "numbers",
            "string",
            "the same numbers as a JSON object; of a stale group also expected_gain (loss that a refit may save a "
            "day) and event_rate (labelled rows a day), and under also the further policies that apply; of one that a "
            "round of the stream takes also queue; with a champion also evidence, drift, recent_loss and "
            "reference_loss; of a fit also predecessor: the model that would answer if the champion were withdrawn "
            "(model_id), and the fleet's clock at the last attempt (since, microseconds); of a person's "
            "request its id (request)",
        ),
        Column("model_id", "string", "the champion then; null without one"),
        Column("epoch", "bigint", "the greatest epoch of the group's promotions then"),
        Column("stale_since", "timestamp", "wall clock: when this group was first found stale; null when fresh"),
        Column("clock", "timestamp", "the fleet's clock (event or wall) at the verdict"),
        Column("judged_at", "timestamp", "wall clock: the batch's timestamp", nullable=False),
        Column("predicted_ms", "double", "predicted cost of the fit", unit="ms"),
        Column("pins", "string", "JSON object: table directory -> version this round reads"),
        BATCH_ID,
    ),
    directories=("stream", "batch"),
)
TRAINING_PREDICTIONS = Column(
    "training_predictions",
    "array<float>",
    "predictions of the model on its training rows, ascending; of classes the largest probability; of 32 rows at most, "
    "of evenly spaced ranks",
)
HELDOUT_PREDICTIONS = Column(
    "heldout_predictions",
    "array<float>",
    "predictions for the rows of heldout_losses by the same models, oldest first; of classes the largest probability",
)


MODELS = Contract(
    "models",
    "One row per attempt to fit, failures too, and per imported model (`people`).",
    (
        SHARD,
        GROUP_KEY,
        ROUND_ID,
        Column(
            "model_id",
            "string",
            "SHA-256 of group_key, rows (imported: payload), recipe_id, parent_model_id; null unless fitted",
        ),
        Column("parent_model_id", "string", "the prior it was fitted from; null without one"),
        Column("recipe_id", "string", "what was fitted and how; imported:CLASS of one from elsewhere", nullable=False),
        Column("generation", "bigint", "a number to show; identity is model_id"),
        Column("status", "string", "fitted, failed, too_few_rows, timed_out", nullable=False),
        Column("error_class", "string", "class of the estimator's error"),
        Column("error", "string", "its text; at most 500 characters"),
        Column("rows", "bigint", "training rows", unit="rows"),
        Column("trained_from", "timestamp", "event_time of the oldest training row"),
        Column("trained_through", "timestamp", "event_time of the newest training row"),
        Column(
            "metrics",
            "string",
            "JSON: heldout_rows, challenger_loss, constant_loss, champion_loss, champion_id, train_loss; "
            "champion_difference, constant_difference and each one's _se: mean paired difference, standard error; "
            "jump: predictions against the champion's, in spreads of its residuals; "
            "predecessor_id, watched_rows, watched_champion_loss, predecessor_loss, watched_difference and its _se: "
            "the champion against the model it replaced, on rows newer than both; against_predecessor: the challenger "
            "against that model; predecessor_error: why it was not compared; "
            "changed_from: recipe_id of the champion where it is another; uncompared: why such a champion was not "
            "compared; refitted: estimator and recipe_id of the champion's recipe that was fitted again; "
            "best_of: chosen, candidates; imported: origin; "
            "shadow: estimator, recipe_id, and loss and rows, or error",
        ),
        HELDOUT_LOSSES,
        LOSS_NAME,
        TRAINING_PREDICTIONS,
        HELDOUT_PREDICTIONS,
        Column("codec", "string", "linear, seasonal, sklearn-arrays, skops, pickle"),
        Column("payload", "binary", "the model"),
        Column("signature", "binary", "HMAC-SHA-256 over group_key, model_id, codec, payload digest"),
        Column("fit_ms", "double", "time this group's fit took, its shadow's too", unit="ms"),
        Column("fitted_at", "timestamp", "wall clock: the round's timestamp, or the import's", nullable=False),
        Column("clock", "timestamp", "the fleet's clock (event or wall) at the round", nullable=False),
        BATCH_ID,
    ),
    directories=("stream", "batch", "people"),
)

PROMOTIONS = Contract(
    "promotions",
    "One row per decision about a challenger or a champion. A round that withdraws a champion has two of its group.",
    (
        SHARD,
        GROUP_KEY,
        Column("round_id", "string", "the round this row belongs to; people-N is a person's step", nullable=False),
        Column(
            "epoch",
            "bigint",
            "raised by each intervention of a person; only promotions of the group's greatest epoch can answer",
            nullable=False,
        ),
        Column("model_id", "string", "the model decided about", nullable=False),
        Column("decision", "string", "promoted, unproven, kept, held, refused, withdrawn, pinned", nullable=False),
        Column("reason", "string", "in words, with the numbers"),
        Column("challenger_loss", "double", "mean loss on the held-out rows"),
        Column(
            "champion_loss",
            "double",
            "the champion's mean loss on the same rows, or that of its recipe fitted again; null without one",
        ),
        Column("rows_compared", "bigint", "held-out rows compared", unit="rows"),
        HELDOUT_LOSSES,
        LOSS_NAME,
        TRAINING_PREDICTIONS,
        HELDOUT_PREDICTIONS,
        Column("trained_through", "timestamp", "event_time of the model's newest training row"),
        Column("fitted_at", "timestamp", "when the model was fitted"),
        Column("decided_at", "timestamp", "wall clock: the round's timestamp", nullable=False),
        Column("clock", "timestamp", "the fleet's clock (event or wall) at the decision", nullable=False),
        Column("by", "string", "stream, batch, or a person's name"),
        Column("rows", "bigint", "rows that the model was fitted on; those compared: rows_compared", unit="rows"),
        Column("fit_ms", "double", "time its fit took", unit="ms"),
        Column("codec", "string", "of the payload; null when the payload is not carried here"),
        Column("payload", "binary", "the model when it is small; else fetched from models by model_id"),
        Column("signature", "binary", "the model's signature, as in models"),
        BATCH_ID,
    ),
    directories=("stream", "batch", "people"),
)

ROUNDS = Contract(
    "rounds",
    "One row per round. groups_in = fitted + failed + too_few_rows + kept + deferred.",
    (
        ROUND_ID,
        Column("kind", "string", "stream or batch", nullable=False),
        Column("groups_in", "bigint", "groups found stale, or asked for", unit="groups"),
        Column(
            "fitted",
            "bigint",
            "groups with a new model; one that the other path promoted meanwhile is in no count of decisions",
            unit="groups",
        ),
        Column("failed", "bigint", "groups whose fit raised or timed out", unit="groups"),
        Column("too_few_rows", "bigint", "groups with fewer rows than the recipe asks", unit="groups"),
        Column("kept", "bigint", "groups whose rows and recipe are the champion's own", unit="groups"),
        Column("deferred", "bigint", "groups left for a later round by the budget", unit="groups"),
        Column("promoted", "bigint", "of the fitted: promoted with evidence", unit="groups"),
        Column("unproven", "bigint", "of the fitted: promoted on thin evidence", unit="groups"),
        Column("refused", "bigint", "of the fitted: refused by the gate", unit="groups"),
        Column("held", "bigint", "of the fitted: held back by a pin, a jump or a halt", unit="groups"),
        Column("withdrawn", "bigint", "withdrawn for the model they replaced, beside the decisions", unit="champions"),
        Column("halted", "string", "why it replaced no champion (of a batch: in some part); null if it was not halted"),
        Column("reasons", "string", "JSON object: policy -> groups planned"),
        Column(
            "seconds",
            "string",
            "JSON object: stage -> seconds (plan, fit, gate); the gate of a part runs beside the next fit",
        ),
        Column("budget_seconds", "double", "allowed length on the wall clock; null without a budget", unit="s"),
        Column("predicted_seconds", "double", "predicted length of a stream's round; of a batch, its fits", unit="s"),
        Column("mean_champion_loss", "double", "over the groups compared"),
        Column("mean_challenger_loss", "double", "over the groups compared"),
        LOSS_NAME,
        Column("clock", "timestamp", "the fleet's clock at the round"),
        Column("started_at", "timestamp", "wall clock: the batch's timestamp", nullable=False),
        Column("pins", "string", "JSON object: table directory -> version this round read"),
        Column("recipe_id", "string", "what was fitted and how"),
        BATCH_ID,
    ),
    directories=("stream", "batch"),
)

ALL = (EVENTS, OUTCOMES, DEAD_LETTERS, INCUMBENT, PREDICTIONS, HEALTH, VERDICTS, MODELS, PROMOTIONS, ROUNDS)
