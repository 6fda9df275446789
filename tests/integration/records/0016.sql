BEGIN TRANSACTION;
CREATE TABLE architecture (
	digest TEXT NOT NULL, 
	spec JSON NOT NULL, 
	CONSTRAINT pk_architecture PRIMARY KEY (digest)
);
INSERT INTO "architecture" VALUES('c1fb0b60032df5575216e1af5dc9d6906593b4d6219aecc73f641ed341c3d396','{"stem_channels":[8,8,16],"stages":[{"mid_channels":8,"out_channels":16,"num_layers":2,"num_blocks":1,"kernel_size":3},{"mid_channels":8,"out_channels":16,"num_layers":2,"num_blocks":1,"kernel_size":3},{"mid_channels":8,"out_channels":16,"num_layers":2,"num_blocks":1,"kernel_size":3}],"stem":"code","residual":false,"depthwise":false,"attention":"none","pool_padding":"ceil"}');
CREATE TABLE artifact (
	id INTEGER NOT NULL, 
	study_id INTEGER NOT NULL, 
	path TEXT NOT NULL, 
	trial INTEGER, 
	kind TEXT NOT NULL, 
	sha256 TEXT NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_artifact PRIMARY KEY (id), 
	CONSTRAINT fk_artifact_study_id_trial_trial FOREIGN KEY(study_id, trial) REFERENCES trial (study_id, number), 
	CONSTRAINT fk_artifact_study_id_study FOREIGN KEY(study_id) REFERENCES study (id), 
	CONSTRAINT uq_artifact_study_id_path UNIQUE (study_id, path)
);
CREATE TABLE baseline (
	id INTEGER NOT NULL, 
	study_id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	measure_s DOUBLE NOT NULL, 
	waiting_s DOUBLE NOT NULL, 
	energy_j DOUBLE, 
	CONSTRAINT pk_baseline PRIMARY KEY (id), 
	CONSTRAINT fk_baseline_study_id_study FOREIGN KEY(study_id) REFERENCES study (id), 
	CONSTRAINT uq_baseline_study_id_name UNIQUE (study_id, name)
);
INSERT INTO "baseline" VALUES(1,1,'vovnet39','abababababababababababababababababababababababababababababababab',0.5,0.25,1.5);
CREATE TABLE baseline_measurement (
	id INTEGER NOT NULL, 
	baseline_id INTEGER NOT NULL, 
	metric TEXT NOT NULL, 
	unit TEXT NOT NULL, 
	value DOUBLE, 
	ci_low DOUBLE, 
	ci_high DOUBLE, 
	samples JSON NOT NULL, 
	kind TEXT NOT NULL, 
	method TEXT NOT NULL, 
	status TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	device_id INTEGER, 
	"plan" TEXT, 
	started_at DATETIME NOT NULL, 
	details JSON, 
	CONSTRAINT pk_baseline_measurement PRIMARY KEY (id), 
	CONSTRAINT ck_baseline_measurement_value CHECK ((value IS NULL) = (status NOT IN ('ok', 'noisy'))), 
	CONSTRAINT ck_baseline_measurement_kind CHECK (kind IN ('measured', 'counted', 'modelled')), 
	CONSTRAINT ck_baseline_measurement_status CHECK (status IN ('ok', 'noisy', 'contended', 'throttled', 'unavailable')), 
	CONSTRAINT fk_baseline_measurement_baseline_id_baseline FOREIGN KEY(baseline_id) REFERENCES baseline (id), 
	CONSTRAINT fk_baseline_measurement_device_id_device FOREIGN KEY(device_id) REFERENCES device (id), 
	CONSTRAINT fk_baseline_measurement_plan_measurement_plan FOREIGN KEY("plan") REFERENCES measurement_plan (digest), 
	CONSTRAINT uq_baseline_measurement_baseline_id_metric_started_at UNIQUE (baseline_id, metric, started_at)
);
INSERT INTO "baseline_measurement" VALUES(1,1,'parameters','1',21577256.0,21577256.0,21577256.0,'[]','counted','counted','ok','',NULL,NULL,'2026-01-02 03:04:05.000000','{}');
CREATE TABLE baseline_rung (
	baseline_id INTEGER NOT NULL, 
	epochs DOUBLE NOT NULL, 
	train_loss DOUBLE, 
	images BIGINT, 
	train_s DOUBLE, 
	validation_s DOUBLE, 
	numerics JSON NOT NULL, 
	checkpoint TEXT, 
	finished_at DATETIME NOT NULL, 
	CONSTRAINT pk_baseline_rung PRIMARY KEY (baseline_id, epochs), 
	CONSTRAINT fk_baseline_rung_baseline_id_baseline FOREIGN KEY(baseline_id) REFERENCES baseline (id)
);
INSERT INTO "baseline_rung" VALUES(1,0.5,1.0,64,2.0,0.5,'{}',NULL,'2026-01-02 03:04:05.000000');
CREATE TABLE baseline_rung_metric (
	baseline_id INTEGER NOT NULL, 
	epochs DOUBLE NOT NULL, 
	metric TEXT NOT NULL, 
	value DOUBLE NOT NULL, 
	CONSTRAINT pk_baseline_rung_metric PRIMARY KEY (baseline_id, epochs, metric), 
	CONSTRAINT fk_baseline_rung_metric_baseline_rung FOREIGN KEY(baseline_id, epochs) REFERENCES baseline_rung (baseline_id, epochs)
);
INSERT INTO "baseline_rung_metric" VALUES(1,0.5,'error',0.25);
CREATE TABLE device (
	id INTEGER NOT NULL, 
	digest TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	name TEXT NOT NULL, 
	identity TEXT NOT NULL, 
	device_class TEXT NOT NULL, 
	details JSON NOT NULL, 
	CONSTRAINT pk_device PRIMARY KEY (id), 
	CONSTRAINT uq_device_digest UNIQUE (digest)
);
INSERT INTO "device" VALUES(1,'ab8dc2a8f49599b23d88ec15f556fa93d1cda6ca527240e0eb3f933bf3124cba','cpu','c','i','k','{"x":[1]}');
INSERT INTO "device" VALUES(2,'dd02ff2c6b02e1910100fa009f6a1cd4dfead5c82e9fb830efe38ee128c4c19a','cpu','Two cores','machine-1','two cores, 1 thread','{"cores":2,"ghz":2.1,"flags":["avx2","fma"]}');
CREATE TABLE evaluation (
	id INTEGER NOT NULL, 
	study_id INTEGER NOT NULL, 
	digest TEXT NOT NULL, 
	measure_s DOUBLE NOT NULL, waiting_s DOUBLE, energy_j DOUBLE, epochs DOUBLE DEFAULT '0' NOT NULL, train_s DOUBLE DEFAULT '0' NOT NULL, validation_s DOUBLE DEFAULT '0' NOT NULL, engine_s DOUBLE, measuring_j DOUBLE, engine_j DOUBLE, 
	CONSTRAINT pk_evaluation PRIMARY KEY (id), 
	CONSTRAINT fk_evaluation_digest_architecture FOREIGN KEY(digest) REFERENCES architecture (digest), 
	CONSTRAINT fk_evaluation_study_id_study FOREIGN KEY(study_id) REFERENCES study (id), 
	CONSTRAINT uq_evaluation_study_id_digest UNIQUE (study_id, digest)
);
INSERT INTO "evaluation" VALUES(1,1,'c1fb0b60032df5575216e1af5dc9d6906593b4d6219aecc73f641ed341c3d396',0.1,0.25,3.33333333333333314829e-01,2.0,0.2,0.4,1.5,0.125,0.0625);
CREATE TABLE "final_training" (
	id INTEGER NOT NULL, 
	study_id INTEGER NOT NULL, 
	network TEXT NOT NULL, 
	digest TEXT, 
	recipe_digest TEXT NOT NULL, 
	recipe JSON NOT NULL, 
	seed BIGINT NOT NULL, 
	test_images BIGINT NOT NULL, 
	epochs DOUBLE NOT NULL, 
	train_loss DOUBLE, 
	images BIGINT, 
	train_s DOUBLE, 
	validation_s DOUBLE, 
	numerics JSON NOT NULL, 
	checkpoint TEXT, 
	finished_at DATETIME NOT NULL, 
	energy_j DOUBLE, 
	CONSTRAINT pk_final_training PRIMARY KEY (id), 
	CONSTRAINT fk_final_training_digest_architecture FOREIGN KEY(digest) REFERENCES architecture (digest), 
	CONSTRAINT uq_final_training_study_id_network_recipe_digest_seed UNIQUE (study_id, network, recipe_digest, seed), 
	CONSTRAINT fk_final_training_study_id_study FOREIGN KEY(study_id) REFERENCES study (id)
);
INSERT INTO "final_training" VALUES(1,1,'densenet40',NULL,'ab','{"epochs":3.5}',7,360,3.5,NULL,5000,0.25,0.5,'{}','old/final/x.safetensors','2026-11-24 11:02:00.000000',2.5);
CREATE TABLE final_training_metric (
	final_training_id INTEGER NOT NULL, 
	metric TEXT NOT NULL, 
	value DOUBLE NOT NULL, 
	CONSTRAINT pk_final_training_metric PRIMARY KEY (final_training_id, metric), 
	CONSTRAINT fk_final_training_metric_final_training FOREIGN KEY(final_training_id) REFERENCES final_training (id)
);
INSERT INTO "final_training_metric" VALUES(1,'error',0.1);
CREATE TABLE front (
	study_id INTEGER NOT NULL, 
	sequence INTEGER NOT NULL, 
	finished_trials INTEGER NOT NULL, 
	hypervolume DOUBLE, 
	feasible BOOLEAN NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_front PRIMARY KEY (study_id, sequence), 
	CONSTRAINT fk_front_study_id_study FOREIGN KEY(study_id) REFERENCES study (id)
);
INSERT INTO "front" VALUES(1,0,1,0.1,1,'2026-11-24 06:40:07.985698');
CREATE TABLE front_member (
	study_id INTEGER NOT NULL, 
	sequence INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	trial INTEGER NOT NULL, 
	CONSTRAINT pk_front_member PRIMARY KEY (study_id, sequence, position), 
	CONSTRAINT fk_front_member_study_id_sequence_front FOREIGN KEY(study_id, sequence) REFERENCES front (study_id, sequence), 
	CONSTRAINT fk_front_member_study_id_trial_trial FOREIGN KEY(study_id, trial) REFERENCES trial (study_id, number), 
	CONSTRAINT uq_front_member_study_id_sequence_trial UNIQUE (study_id, sequence, trial)
);
INSERT INTO "front_member" VALUES(1,0,0,0);
CREATE TABLE measurement (
	id INTEGER NOT NULL, 
	evaluation_id INTEGER NOT NULL, 
	metric TEXT NOT NULL, 
	unit TEXT NOT NULL, 
	value DOUBLE, 
	ci_low DOUBLE, 
	ci_high DOUBLE, 
	samples JSON NOT NULL, 
	kind TEXT NOT NULL, 
	method TEXT NOT NULL, 
	status TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	device_id INTEGER, 
	"plan" TEXT, 
	started_at DATETIME NOT NULL, details JSON, 
	CONSTRAINT pk_measurement PRIMARY KEY (id), 
	CONSTRAINT ck_measurement_value CHECK ((value IS NULL) = (status NOT IN ('ok', 'noisy'))), 
	CONSTRAINT ck_measurement_kind CHECK (kind IN ('measured', 'counted', 'modelled')), 
	CONSTRAINT ck_measurement_status CHECK (status IN ('ok', 'noisy', 'contended', 'throttled', 'unavailable')), 
	CONSTRAINT fk_measurement_device_id_device FOREIGN KEY(device_id) REFERENCES device (id), 
	CONSTRAINT fk_measurement_evaluation_id_evaluation FOREIGN KEY(evaluation_id) REFERENCES evaluation (id), 
	CONSTRAINT fk_measurement_plan_measurement_plan FOREIGN KEY("plan") REFERENCES measurement_plan (digest), 
	CONSTRAINT uq_measurement_evaluation_id_metric_started_at UNIQUE (evaluation_id, metric, started_at)
);
INSERT INTO "measurement" VALUES(1,1,'latency','s',3.33333333333333314829e-01,0.1,0.7,'[0.1,0.3333333333333333,0.7]','measured','blocks','ok','',1,'93cde68358423698','2026-01-02 03:04:05.678901',NULL);
INSERT INTO "measurement" VALUES(2,1,'energy','J',NULL,NULL,NULL,'[]','measured','none','unavailable','no sensor',NULL,NULL,'2026-01-02 03:04:05.678901',NULL);
CREATE TABLE measurement_plan (
	digest TEXT NOT NULL, 
	spec JSON NOT NULL, 
	CONSTRAINT pk_measurement_plan PRIMARY KEY (digest)
);
INSERT INTO "measurement_plan" VALUES('93cde68358423698','{"batch_size":1,"image_size":32,"precision":"fp32","runtime":"eager","threads":1,"warmup_s":0.3,"block_s":0.02,"min_blocks":10,"min_time_s":0.3,"max_time_s":2.0,"max_half_width":0.02}');
CREATE TABLE metric_context (
	study_id INTEGER NOT NULL, 
	metric TEXT NOT NULL, 
	unit TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	device_class TEXT, 
	"plan" TEXT, method TEXT, 
	CONSTRAINT pk_metric_context PRIMARY KEY (study_id, metric), 
	CONSTRAINT ck_metric_context_kind CHECK (kind IN ('measured', 'counted', 'modelled')), 
	CONSTRAINT fk_metric_context_plan_measurement_plan FOREIGN KEY("plan") REFERENCES measurement_plan (digest), 
	CONSTRAINT fk_metric_context_study_id_study FOREIGN KEY(study_id) REFERENCES study (id)
);
INSERT INTO "metric_context" VALUES(1,'latency','s','measured','k','93cde68358423698',NULL);
INSERT INTO "metric_context" VALUES(1,'parameters','1','counted',NULL,NULL,NULL);
CREATE TABLE nas_schema_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT nas_schema_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "nas_schema_version" VALUES('0016');
CREATE TABLE "objective" (
	study_id INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	metric TEXT NOT NULL, 
	direction TEXT NOT NULL, 
	limit_value DOUBLE, 
	reference_value DOUBLE, 
	unit TEXT, 
	device TEXT, 
	CONSTRAINT pk_objective PRIMARY KEY (study_id, position), 
	CONSTRAINT ck_objective_direction CHECK (direction IN ('minimize', 'maximize')), 
	CONSTRAINT fk_objective_study_id_study FOREIGN KEY(study_id) REFERENCES study (id), 
	CONSTRAINT uq_objective_study_id_metric_device UNIQUE (study_id, metric, device)
);
INSERT INTO "objective" VALUES(1,0,'error','minimize',NULL,0.9,'1',NULL);
INSERT INTO "objective" VALUES(1,1,'latency','minimize',0.5,0.5,NULL,NULL);
CREATE TABLE "replicate_rung" (
	evaluation_id INTEGER NOT NULL, 
	seed BIGINT NOT NULL, 
	epochs DOUBLE NOT NULL, 
	train_loss DOUBLE, 
	images BIGINT, 
	train_s DOUBLE, 
	validation_s DOUBLE, 
	numerics JSON NOT NULL, 
	checkpoint TEXT, 
	finished_at DATETIME NOT NULL, 
	energy_j DOUBLE, 
	CONSTRAINT pk_replicate_rung PRIMARY KEY (evaluation_id, seed, epochs), 
	CONSTRAINT fk_replicate_rung_evaluation_id_evaluation FOREIGN KEY(evaluation_id) REFERENCES evaluation (id)
);
INSERT INTO "replicate_rung" VALUES(1,5,0.5,NULL,64,0.1,0.7,'{"precision":"fp32"}','old/x/seed-5/rung-0.5.safetensors','2026-11-24 11:00:00.000000',NULL);
INSERT INTO "replicate_rung" VALUES(1,5,2.0,1.5,64,0.1,0.7,'{"precision":"fp32"}',NULL,'2026-11-24 11:01:00.000000',0.375);
CREATE TABLE replicate_rung_metric (
	evaluation_id INTEGER NOT NULL, 
	seed BIGINT NOT NULL, 
	epochs DOUBLE NOT NULL, 
	metric TEXT NOT NULL, 
	value DOUBLE NOT NULL, 
	CONSTRAINT pk_replicate_rung_metric PRIMARY KEY (evaluation_id, seed, epochs, metric), 
	CONSTRAINT fk_replicate_rung_metric_replicate_rung FOREIGN KEY(evaluation_id, seed, epochs) REFERENCES replicate_rung (evaluation_id, seed, epochs)
);
INSERT INTO "replicate_rung_metric" VALUES(1,5,0.5,'error',3.33333333333333314829e-01);
INSERT INTO "replicate_rung_metric" VALUES(1,5,2.0,'error',0.2);
CREATE TABLE "rung" (
	evaluation_id INTEGER NOT NULL, 
	epochs DOUBLE NOT NULL, 
	train_loss DOUBLE, 
	images BIGINT, 
	train_s DOUBLE, 
	validation_s DOUBLE, 
	numerics JSON NOT NULL, 
	checkpoint TEXT, 
	finished_at DATETIME NOT NULL, 
	CONSTRAINT pk_rung PRIMARY KEY (evaluation_id, epochs), 
	CONSTRAINT fk_rung_evaluation_id_evaluation FOREIGN KEY(evaluation_id) REFERENCES evaluation (id)
);
INSERT INTO "rung" VALUES(1,0.5,0.1,5,0.1,0.2,'{}',NULL,'2026-01-02 03:04:05.678901');
INSERT INTO "rung" VALUES(1,2.0,0.1,5,0.1,0.2,'{}',NULL,'2026-01-02 03:04:05.678901');
CREATE TABLE rung_metric (
	evaluation_id INTEGER NOT NULL, 
	epochs DOUBLE NOT NULL, 
	metric TEXT NOT NULL, 
	value DOUBLE NOT NULL, 
	CONSTRAINT pk_rung_metric PRIMARY KEY (evaluation_id, epochs, metric), 
	CONSTRAINT fk_rung_metric_rung FOREIGN KEY(evaluation_id, epochs) REFERENCES rung (evaluation_id, epochs)
);
INSERT INTO "rung_metric" VALUES(1,0.5,'error',0.7);
INSERT INTO "rung_metric" VALUES(1,2.0,'error',0.1);
INSERT INTO "rung_metric" VALUES(1,2.0,'top5_error',0.05);
CREATE TABLE single_measurement (
	id INTEGER NOT NULL, 
	target TEXT NOT NULL, 
	digest TEXT, 
	metric TEXT NOT NULL, 
	unit TEXT NOT NULL, 
	value DOUBLE, 
	ci_low DOUBLE, 
	ci_high DOUBLE, 
	samples JSON NOT NULL, 
	kind TEXT NOT NULL, 
	method TEXT NOT NULL, 
	status TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	device_id INTEGER, 
	"plan" TEXT, 
	started_at DATETIME NOT NULL, 
	details JSON, 
	CONSTRAINT pk_single_measurement PRIMARY KEY (id), 
	CONSTRAINT ck_single_measurement_value CHECK ((value IS NULL) = (status NOT IN ('ok', 'noisy'))), 
	CONSTRAINT ck_single_measurement_kind CHECK (kind IN ('measured', 'counted', 'modelled')), 
	CONSTRAINT ck_single_measurement_status CHECK (status IN ('ok', 'noisy', 'contended', 'throttled', 'unavailable')), 
	CONSTRAINT fk_single_measurement_device_id_device FOREIGN KEY(device_id) REFERENCES device (id), 
	CONSTRAINT fk_single_measurement_plan_measurement_plan FOREIGN KEY("plan") REFERENCES measurement_plan (digest)
);
INSERT INTO "single_measurement" VALUES(1,'vovnet39',NULL,'latency','s',0.25,0.1,3.33333333333333314829e-01,'[0.1,0.3333333333333333,3.141592653589793,5e-324,1.7976931348623157e+308,123456789.12345678,9007199254740994.0,1e-07,3.0]','measured','blocks','ok','',2,'93cde68358423698','2026-01-02 00:00:00.000000','{"protocol":2}');
CREATE TABLE study (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	spec JSON NOT NULL, 
	dataset TEXT NOT NULL, 
	classes INTEGER NOT NULL, 
	artifacts TEXT NOT NULL, 
	numerics JSON NOT NULL, 
	version TEXT NOT NULL, 
	created_at DATETIME NOT NULL, identity JSON, archived_at DATETIME, 
	CONSTRAINT pk_study PRIMARY KEY (id), 
	CONSTRAINT uq_study_name UNIQUE (name)
);
INSERT INTO "study" VALUES(1,'old','{"name":"old","space":"osa_tiny","objectives":[{"metric":"error","direction":"minimize","limit":null,"reference":0.9},{"metric":"latency","direction":"minimize","limit":0.5,"reference":0.5}],"sampler":"tpe","evaluator":"classification","seed":11,"rungs":[{"epochs":1.0,"steps":null,"images":null,"image_size":null}],"stopping":{"futility":false},"data":{"dataset":"cifar10","folder":null,"fallback":null,"validation_images":5000,"train_images":null,"image_size":null},"training":{"batch_size":128,"learning_rate":0.2,"momentum":0.9,"weight_decay":0.0005,"label_smoothing":0.1,"warmup":0.25,"flip":true,"translate":2,"cutout":0,"precision":"auto","channels_last":null,"compile":false},"measurement":{"batch_size":1,"image_size":32,"precision":"fp32","runtime":"eager","threads":1,"channels_last":null,"warmup_s":0.3,"block_s":0.02,"min_blocks":10,"min_time_s":0.3,"max_time_s":2.0,"max_half_width":0.02,"device":null,"busy":"fail","busy_wait_s":40.0},"budget":{"trials":100,"wall_time_s":null,"proposals":null,"epochs":null,"device_s":null,"energy_j":null,"certify":null,"fresh":null},"workers":{"kind":"local","count":1,"cpus":1,"gpus":0.0,"retries":2},"baselines":["vovnet39"],"trained":[{"name":"error","unit":"1","direction":"minimize","low":0.0,"high":1.0}]}','digits',10,'','{"precision":"fp32"}','0.1.0','2026-11-24 06:40:07.903813','{"space":{"choices":{"stem_mid":[8,16]},"networks":[]},"code":{},"files":{}}','2026-01-02 03:04:05.000000');
CREATE TABLE trial (
	study_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	evaluation_id INTEGER NOT NULL, 
	duplicate_of INTEGER, 
	state TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	params JSON NOT NULL, 
	as_proposed JSON, 
	sampler_state JSON NOT NULL, 
	seed BIGINT NOT NULL, 
	worker TEXT NOT NULL, 
	started_at DATETIME NOT NULL, 
	finished_at DATETIME, origin TEXT, 
	CONSTRAINT pk_trial PRIMARY KEY (study_id, number), 
	CONSTRAINT ck_trial_state CHECK (state IN ('running', 'complete', 'stopped', 'failed')), 
	CONSTRAINT ck_trial_duplicate_of CHECK (duplicate_of < number), 
	CONSTRAINT ck_trial_number CHECK (number >= 0), 
	CONSTRAINT fk_trial_evaluation_id_evaluation FOREIGN KEY(evaluation_id) REFERENCES evaluation (id), 
	CONSTRAINT fk_trial_study_id_duplicate_of_trial FOREIGN KEY(study_id, duplicate_of) REFERENCES trial (study_id, number), 
	CONSTRAINT fk_trial_study_id_study FOREIGN KEY(study_id) REFERENCES study (id)
);
INSERT INTO "trial" VALUES(1,0,1,NULL,'complete','','{"a":1}',NULL,'{}',1,'','2026-01-02 03:04:05.678901','2026-01-02 03:04:05.678901',NULL);
INSERT INTO "trial" VALUES(1,1,1,0,'complete','','{"a":1}','{"stem_channels":[8,8,16],"stages":[{"mid_channels":8,"out_channels":16,"num_layers":2,"num_blocks":1,"kernel_size":3},{"mid_channels":8,"out_channels":16,"num_layers":2,"num_blocks":1,"kernel_size":3},{"mid_channels":8,"out_channels":16,"num_layers":2,"num_blocks":1,"kernel_size":3}],"stem":"code","residual":true,"depthwise":false,"attention":"none","pool_padding":"ceil"}','{}',1,'','2026-01-02 03:04:05.678901','2026-01-02 03:04:05.678901','before:7');
CREATE INDEX ix_trial_evaluation_id ON trial (evaluation_id);
CREATE UNIQUE INDEX uq_trial_original ON trial (evaluation_id) WHERE duplicate_of IS NULL;
CREATE VIEW current_measurement AS
SELECT m.id, m.evaluation_id, m.metric, m.unit, m.value, m.ci_low, m.ci_high, m.kind, m.method, m.status, m.reason,
       m.device_id, m.plan, m.started_at
FROM measurement m
WHERE m.id = (SELECT max(n.id) FROM measurement n WHERE n.evaluation_id = m.evaluation_id AND n.metric = m.metric);
CREATE VIEW hypervolume_history AS
SELECT s.name AS study, f.finished_trials, f.hypervolume, f.feasible,
       (SELECT count(*) FROM front_member p WHERE p.study_id = f.study_id AND p.sequence = f.sequence) AS members,
       f.created_at
FROM study s
JOIN front f ON f.study_id = s.id
WHERE f.sequence = (SELECT max(g.sequence) FROM front g
                    WHERE g.study_id = f.study_id AND g.finished_trials = f.finished_trials);
CREATE INDEX ix_single_measurement_target ON single_measurement (target);
CREATE INDEX ix_trial_progress ON trial (study_id, state, duplicate_of, started_at, finished_at);
CREATE VIEW last_rung AS
SELECT r.evaluation_id, r.epochs, m.value AS error, r.train_loss, r.checkpoint, r.finished_at
FROM rung r
LEFT JOIN rung_metric m
       ON m.evaluation_id = r.evaluation_id AND m.epochs = r.epochs AND m.metric = 'error'
WHERE r.epochs = (SELECT max(q.epochs) FROM rung q WHERE q.evaluation_id = r.evaluation_id);
CREATE VIEW objective_value AS
SELECT t.study_id, t.number AS trial, o.position, o.metric, o.direction, o.limit_value,
       coalesce(q.value, m.value) AS value, m.ci_low, m.ci_high, coalesce(o.unit, m.unit) AS unit,
       o.device
FROM trial t
JOIN objective o ON o.study_id = t.study_id
LEFT JOIN last_rung r ON r.evaluation_id = t.evaluation_id AND o.unit IS NOT NULL
LEFT JOIN rung_metric q
       ON q.evaluation_id = r.evaluation_id AND q.epochs = r.epochs AND q.metric = o.metric
LEFT JOIN current_measurement m
       ON m.evaluation_id = t.evaluation_id AND m.metric = o.metric || coalesce('@' || o.device, '');
CREATE VIEW pareto AS
SELECT s.name AS study, p.position, p.trial, e.digest, v.metric, v.value, v.ci_low, v.ci_high,
       v.unit, v.direction, v.limit_value, f.feasible, v.device
FROM study s
JOIN front f ON f.study_id = s.id
JOIN front_member p ON p.study_id = f.study_id AND p.sequence = f.sequence
JOIN trial t ON t.study_id = p.study_id AND t.number = p.trial
JOIN evaluation e ON e.id = t.evaluation_id
JOIN objective_value v ON v.study_id = p.study_id AND v.trial = p.trial
WHERE f.sequence = (SELECT max(g.sequence) FROM front g WHERE g.study_id = f.study_id);
CREATE VIEW trial_overview AS
SELECT s.name AS study, t.number AS trial, t.state, t.duplicate_of, t.reason, e.digest, r.epochs, r.error,
       (SELECT count(*) FROM objective_value v
        WHERE v.study_id = t.study_id AND v.trial = t.number
          AND ((v.direction = 'minimize' AND v.value > v.limit_value)
               OR (v.direction = 'maximize' AND v.value < v.limit_value))) AS limits_violated,
       e.measure_s,
       (SELECT coalesce(sum(q.train_s), 0) FROM rung q WHERE q.evaluation_id = e.id) AS train_s,
       t.worker, t.started_at, t.finished_at
FROM study s
JOIN trial t ON t.study_id = s.id
JOIN evaluation e ON e.id = t.evaluation_id
LEFT JOIN last_rung r ON r.evaluation_id = e.id;
COMMIT;
