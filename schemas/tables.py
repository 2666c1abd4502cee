"""The tables of a fleet. Delta, reader version 1, under ``<root>/tables/``."""

from __future__ import annotations

from schemas.contract import Column, Contract

SHARD = Column("shard", "int", "pmod(xxhash64(group_key), shards)", nullable=False)
GROUP_KEY = Column(
    "group_key",
    "string",
    "the values of the group's columns as a canonical JSON array; a parent's as a JSON object",
    nullable=False,
)
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
        Column("event_time", "timestamp", "time of the event, as the producer sent it", nullable=False),
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
        Column("key", "binary", "the record's key, unchanged"),
        Column("value", "binary", "the record's value, unchanged"),
        *KAFKA,
        Column("reason", "string", "from the closed list DeadLetterReason", nullable=False),
        Column("detail", "string", "what was expected and what came; at most 500 characters"),
        Column("field", "string", "the column that the reason is about; null if it is about the whole record"),
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
        Column("prediction", "double", "the answer of that system; a string for classification", nullable=False),
        Column("ingested_at", "timestamp", "when the row was loaded"),
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
        Column("event_time", "timestamp", "time of the event, as the producer sent it", nullable=False),
        Column("prediction", "double", "the answer; null if no model answered"),
        Column(
            "lower",
            "double",
            "lower end of the interval around the prediction; null if unbounded, and for classification",
        ),
        Column(
            "upper",
            "double",
            "upper end of the interval around the prediction; null if unbounded, and for classification",
        ),
        Column("probabilities", "map<string,double>", "class to probability; null for regression"),
        Column("label", "double", "the label, if it came inside the event"),
        Column("model_id", "string", "the model that answered; null if none did"),
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
    "the loss in which the losses of this row are measured: absolute, squared or log; null in rows of earlier "
    "versions, which have the loss that the fleet was made with",
)

HEALTH = Contract(
    "health",
    "Sums to be added up: in each batch one row per group, model_id and interval of event time whose labels mature "
    "together. A row with a null group_key carries the newest event time of a shard, one per shard and batch.",
    (
        Column("shard", "int", "pmod(xxhash64(group_key), shards)", nullable=False),
        Column("group_key", "string", "the group; null for a tick of the clock"),
        Column("model_id", "string", "the model that answered; null if none did, or if a label has no finite loss"),
        Column("rows", "bigint", "events answered", unit="rows"),
        Column("labelled", "bigint", "events whose label arrived, answered now or earlier", unit="rows"),
        Column("loss", "double", "sum of the fleet's loss over the labelled events"),
        Column("squared_loss", "double", "sum of the squares of these losses"),
        Column(
            "losses",
            "array<float>",
            "the loss of each labelled event, ascending; of 64 events at most, spread evenly over all; null if "
            "`labelled` is 0 or 1, since `loss` is then the only one",
        ),
        Column(
            "drift",
            "array<double>",
            "for the policy drift: the predictions of these events, ascending; of classes the largest probability; of "
            "64 events at most, spread evenly over all; null for labels of earlier events",
        ),
        LOSS_NAME,
        Column(
            "last_event_time", "timestamp", "greatest event_time of these events; they are mature label_delay later"
        ),
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
            "the policy that gives the reason: new_group, no_labels, error_rise, new_rows, row_days, max_age, drift, "
            "schedule, or one of your own; in a batch also all and asked; manual: a person's request to the stream",
        ),
        Column("decision", "string", "fit, deferred, held, refused, fresh", nullable=False),
        Column("reason", "string", "the reason in words, with the numbers"),
        Column(
            "numbers",
            "string",
            "the same numbers as a JSON object. Of a stale group also expected_gain (loss that a refit may save a "
            "day), event_rate (labelled rows a day) and, in the field also, the further policies that apply. Of a "
            "group that a round of the stream takes: queue. Of a group with a champion: evidence, drift, "
            "recent_loss and reference_loss. Of a fit: predecessor, which has the model_id of the model that would "
            "answer if the champion were withdrawn, and since, the fleet's clock at the last attempt in "
            "microseconds. Of a person's request: its id (request)",
        ),
        Column("model_id", "string", "the champion at the verdict; null if there was none"),
        Column("epoch", "bigint", "the greatest epoch of the group's promotions at the verdict"),
        Column("stale_since", "timestamp", "wall clock: when this group was first found stale; null if it is fresh"),
        Column("clock", "timestamp", "the fleet's clock (event or wall) at the verdict"),
        Column("judged_at", "timestamp", "wall clock: the batch's timestamp", nullable=False),
        Column("predicted_ms", "double", "predicted cost of the fit", unit="ms"),
        Column("pins", "string", "JSON object: table directory -> version that this round reads"),
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

PREQUENTIAL_LOSSES = Column(
    "prequential_losses",
    "array<float>",
    "losses of the group's champions so far on rows that each had not seen when it answered, oldest first; 32 at most, "
    "spread over about half of the rows. Of a first model, or a first one of another recipe, those of heldout_losses; "
    "null for classification and in rows of earlier versions",
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
        Column("parent_model_id", "string", "the parent's model with which it was pooled; null if it was not pooled"),
        Column("recipe_id", "string", "hash of the recipe; imported:CLASS for an imported model", nullable=False),
        Column("generation", "bigint", "a number per group, for display; model_id identifies a model"),
        Column("status", "string", "fitted, failed, too_few_rows, timed_out", nullable=False),
        Column("error_class", "string", "class of the estimator's error"),
        Column("error", "string", "text of the estimator's error; at most 500 characters"),
        Column("rows", "bigint", "training rows", unit="rows"),
        Column("trained_from", "timestamp", "event_time of the oldest training row"),
        Column("trained_through", "timestamp", "event_time of the newest training row"),
        Column(
            "metrics",
            "string",
            "JSON object: heldout_rows, challenger_loss, constant_loss, champion_loss, champion_id, train_loss; "
            "champion_difference, constant_difference and each one's _se: mean paired difference, standard error; "
            "jump: predictions against the champion's, in spreads of its residuals, of the measured challenger or of "
            "the stored model if that jumps farther; "
            "predecessor_id, watched_rows, watched_champion_loss, predecessor_loss, watched_difference and its _se: "
            "the champion against the model it replaced, on rows newer than both; against_predecessor: the challenger "
            "against that model; predecessor_error: why it was not compared; "
            "changed_from: recipe_id of the champion if it is another one; uncompared: why such a champion was not "
            "compared; refitted: estimator and recipe_id of the champion's recipe that was fitted again; "
            "user_rule: rule, promotes and reason of a gate's rule of your own; "
            "best_of: chosen, candidates; imported: origin; "
            "shadow: estimator, recipe_id, and loss and rows, or error",
        ),
        HELDOUT_LOSSES,
        LOSS_NAME,
        TRAINING_PREDICTIONS,
        HELDOUT_PREDICTIONS,
        PREQUENTIAL_LOSSES,
        Column("codec", "string", "linear, seasonal, sklearn-arrays, skops, pickle"),
        Column("payload", "binary", "the encoded model"),
        Column("signature", "binary", "HMAC-SHA-256 over group_key, model_id, codec, payload digest"),
        Column("fit_ms", "double", "time of this group's fit, with that of its shadow", unit="ms"),
        Column("fitted_at", "timestamp", "wall clock: the round's timestamp, or the import's", nullable=False),
        Column("clock", "timestamp", "the fleet's clock (event or wall) at the round", nullable=False),
        BATCH_ID,
    ),
    directories=("stream", "batch", "people"),
)

PROMOTIONS = Contract(
    "promotions",
    "One row per decision about a challenger or a champion. A withdrawal is a second row of its group's round.",
    (
        SHARD,
        GROUP_KEY,
        Column(
            "round_id", "string", "the round this row belongs to; people-N for a person's intervention", nullable=False
        ),
        Column(
            "epoch",
            "bigint",
            "raised by each intervention of a person; only promotions of the group's greatest epoch can answer",
            nullable=False,
        ),
        Column("model_id", "string", "the model that the decision is about", nullable=False),
        Column("decision", "string", "promoted, unproven, kept, held, refused, withdrawn, pinned", nullable=False),
        Column("reason", "string", "the reason in words, with the numbers"),
        Column(
            "about_jump",
            "boolean",
            "whether a challenger is held because its predictions jump, or passes because the jump has lasted; null in "
            "rows of earlier versions, whose reason says it",
        ),
        Column("challenger_loss", "double", "mean loss on the held-out rows"),
        Column(
            "champion_loss",
            "double",
            "the champion's mean loss on the same rows, or that of its recipe fitted again; null without a champion",
        ),
        Column("rows_compared", "bigint", "held-out rows compared", unit="rows"),
        HELDOUT_LOSSES,
        LOSS_NAME,
        TRAINING_PREDICTIONS,
        HELDOUT_PREDICTIONS,
        PREQUENTIAL_LOSSES,
        Column("trained_through", "timestamp", "event_time of the model's newest training row"),
        Column("fitted_at", "timestamp", "when the model was fitted"),
        Column("decided_at", "timestamp", "wall clock: the round's timestamp", nullable=False),
        Column("clock", "timestamp", "the fleet's clock (event or wall) at the decision", nullable=False),
        Column("by", "string", "stream, batch, or a person's name"),
        Column("rows", "bigint", "rows that the model was fitted on; those compared: rows_compared", unit="rows"),
        Column("fit_ms", "double", "time of the model's fit", unit="ms"),
        Column("codec", "string", "codec of the payload; null if the payload is not stored here"),
        Column("payload", "binary", "the encoded model if it is small; else null: it is in models"),
        Column("signature", "binary", "the model's signature, as in models; null without a payload"),
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
            "groups with a new model; a model that the other path promoted meanwhile is in no count of decisions",
            unit="groups",
        ),
        Column("failed", "bigint", "groups whose fit raised or timed out", unit="groups"),
        Column("too_few_rows", "bigint", "groups with fewer rows than the recipe requires", unit="groups"),
        Column("kept", "bigint", "groups whose rows and recipe are the champion's own", unit="groups"),
        Column("deferred", "bigint", "groups left for a later round by the budget", unit="groups"),
        Column("promoted", "bigint", "fitted groups whose challenger was promoted with evidence", unit="groups"),
        Column("unproven", "bigint", "fitted groups whose challenger was promoted on thin evidence", unit="groups"),
        Column("refused", "bigint", "fitted groups whose challenger was refused by the gate", unit="groups"),
        Column(
            "held",
            "bigint",
            "fitted groups whose challenger was held because of a pin, a jump or a halt",
            unit="groups",
        ),
        Column(
            "withdrawn",
            "bigint",
            "champions withdrawn, so that the model before them answers; not in the other counts",
            unit="champions",
        ),
        Column(
            "halted",
            "string",
            "why the round (or some part of a batch) replaced no champion; null if it was not halted",
        ),
        Column("reasons", "string", "JSON object: policy -> groups planned"),
        Column(
            "seconds",
            "string",
            "JSON object: stage -> seconds (plan, fit, gate); the gate of a part runs beside the next fit",
        ),
        Column("budget_seconds", "double", "allowed length on the wall clock; null without a budget", unit="s"),
        Column(
            "predicted_seconds",
            "double",
            "predicted length of a round of the stream; for a batch, of its fits",
            unit="s",
        ),
        Column("mean_champion_loss", "double", "mean of champion_loss over the groups compared"),
        Column("mean_challenger_loss", "double", "mean of challenger_loss over the groups compared"),
        LOSS_NAME,
        Column("clock", "timestamp", "the fleet's clock at the round"),
        Column("started_at", "timestamp", "wall clock: the batch's timestamp", nullable=False),
        Column("pins", "string", "JSON object: table directory -> version that this round read"),
        Column("recipe_id", "string", "hash of the recipe"),
        BATCH_ID,
    ),
    directories=("stream", "batch"),
)

ALL = (EVENTS, OUTCOMES, DEAD_LETTERS, INCUMBENT, PREDICTIONS, HEALTH, VERDICTS, MODELS, PROMOTIONS, ROUNDS)
