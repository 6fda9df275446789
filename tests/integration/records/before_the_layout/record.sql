BEGIN TRANSACTION;
CREATE TABLE architecture (
	digest TEXT NOT NULL, 
	spec JSON NOT NULL, 
	CONSTRAINT pk_architecture PRIMARY KEY (digest)
);
INSERT INTO "architecture" VALUES('dd33e4790271395ce6f01594f88d6c0ea5e7cced4287997db95a9f195dbfe74a','{"stem_channels":[4,4,8],"stages":[{"mid_channels":8,"out_channels":16,"num_layers":2,"num_blocks":1,"kernel_size":3},{"mid_channels":12,"out_channels":24,"num_layers":2,"num_blocks":1,"kernel_size":3},{"mid_channels":8,"out_channels":32,"num_layers":2,"num_blocks":2,"kernel_size":3}],"stem":"cifar","residual":true,"depthwise":false,"attention":"all","pool_padding":"ceil"}');
INSERT INTO "architecture" VALUES('82f52b599602e786dc17479a59a5bcefbbf38182d29bcf6c93e15c7895a81da0','{"stem_channels":[4,4,8],"stages":[{"mid_channels":8,"out_channels":16,"num_layers":2,"num_blocks":1,"kernel_size":3},{"mid_channels":12,"out_channels":24,"num_layers":3,"num_blocks":1,"kernel_size":3},{"mid_channels":8,"out_channels":32,"num_layers":2,"num_blocks":2,"kernel_size":3}],"stem":"cifar","residual":true,"depthwise":true,"attention":"none","pool_padding":"ceil"}');
INSERT INTO "architecture" VALUES('a6b6a86bcb17774b00b8dee6975d3d0d12f3a17b7cbc9b90a0c5411bbc2e5654','{"stem_channels":[4,4,8],"stages":[{"mid_channels":8,"out_channels":16,"num_layers":2,"num_blocks":1,"kernel_size":3},{"mid_channels":12,"out_channels":24,"num_layers":3,"num_blocks":1,"kernel_size":3},{"mid_channels":8,"out_channels":32,"num_layers":2,"num_blocks":1,"kernel_size":3}],"stem":"cifar","residual":false,"depthwise":true,"attention":"none","pool_padding":"ceil"}');
INSERT INTO "architecture" VALUES('d70764271172550600fdc59115db56b7ecf370736fcffa1cf9aa8375920b5ca8','{"stem_channels":[4,4,8],"stages":[{"mid_channels":8,"out_channels":16,"num_layers":2,"num_blocks":1,"kernel_size":3},{"mid_channels":8,"out_channels":24,"num_layers":2,"num_blocks":1,"kernel_size":3},{"mid_channels":8,"out_channels":32,"num_layers":2,"num_blocks":1,"kernel_size":3}],"stem":"cifar","residual":false,"depthwise":false,"attention":"none","pool_padding":"ceil"}');
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
INSERT INTO "artifact" VALUES(1,1,'before/dd33e4790271395c/rung-0.25.safetensors',0,'checkpoint','c4c86c6e9094179f4d355e6a1700d0ef04fa28f1aee8ebcf97b705e32cba2a6d',160296,'2026-11-30 06:21:27.861280');
INSERT INTO "artifact" VALUES(2,1,'before/82f52b599602e786/rung-0.25.safetensors',1,'checkpoint','925bfebe0f727df57d51fc5cc14a95c4c106432bb499a2c8b0dec41825945eeb',84920,'2026-11-30 06:21:36.721574');
INSERT INTO "artifact" VALUES(3,1,'before/a6b6a86bcb17774b/rung-0.25.safetensors',2,'checkpoint','a83c5b9d5cf5a9f88d344816abca295bc29c39fb8cc343d603dbc8a554b0aede',62536,'2026-11-30 06:21:44.197277');
INSERT INTO "artifact" VALUES(4,1,'before/final/6c46e71a2e1bb6c8-090358b9-572589424/weights.safetensors',2,'weights','3506c0d13b783ddb6ed30ed8322bf5589ae5170caa02b20efbb7f18f724a3a54',34520,'2026-11-30 06:22:33.917587');
INSERT INTO "artifact" VALUES(5,1,'before/final/5a88817f94b3df88-090358b9-658350864/weights.safetensors',NULL,'weights','8b49657eb81fd44a55493a65a515d0da9b283fa45b2daae95498497e57c52827',4701132,'2026-11-30 06:23:17.646283');
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
INSERT INTO "device" VALUES(1,'cc51199a7676388d915d9d5ea6a504fbb33aa85b1e4587528f1eafeac6e1fbd5','cpu','A CPU','cpu-1','A CPU, 2 cores','{}');
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
INSERT INTO "evaluation" VALUES(1,1,'dd33e4790271395ce6f01594f88d6c0ea5e7cced4287997db95a9f195dbfe74a',0.0,7.60871000238694250583e-04,NULL,0.25,5.16883862699978635646e+00,1.27146499799982848344e+00,9.62299650400014527917e+00,NULL,NULL);
INSERT INTO "evaluation" VALUES(2,1,'82f52b599602e786dc17479a59a5bcefbbf38182d29bcf6c93e15c7895a81da0',0.0,0.000778834999891842,NULL,0.25,6.90600739100045757368e+00,1.3747833279994665645e+00,4.92492446000184713739e-01,NULL,NULL);
INSERT INTO "evaluation" VALUES(3,1,'a6b6a86bcb17774b00b8dee6975d3d0d12f3a17b7cbc9b90a0c5411bbc2e5654',0.0,6.77552999150066170841e-04,NULL,0.25,6.02637250000043422915e+00,9.31998001000465592369e-01,3.74526945999949845145e-01,NULL,NULL);
INSERT INTO "evaluation" VALUES(4,1,'d70764271172550600fdc59115db56b7ecf370736fcffa1cf9aa8375920b5ca8',0.0,4.8214600019491626881e-04,NULL,0.25,3.42950660599944967543e+00,5.45385736000298493308e-01,3.15862512000056661065e-01,NULL,NULL);
CREATE TABLE final_training (
	id INTEGER NOT NULL, 
	study_id INTEGER NOT NULL, 
	network TEXT NOT NULL, 
	digest TEXT, 
	recipe_digest TEXT NOT NULL, 
	recipe JSON NOT NULL, 
	seed BIGINT NOT NULL, 
	test_images BIGINT NOT NULL, 
	epochs DOUBLE NOT NULL, 
	error DOUBLE NOT NULL, 
	train_loss DOUBLE, 
	images BIGINT NOT NULL, 
	train_s DOUBLE NOT NULL, 
	validation_s DOUBLE NOT NULL, 
	numerics JSON NOT NULL, 
	checkpoint TEXT, 
	finished_at DATETIME NOT NULL, energy_j DOUBLE, 
	CONSTRAINT pk_final_training PRIMARY KEY (id), 
	CONSTRAINT ck_final_training_error CHECK (error >= 0 AND error <= 1), 
	CONSTRAINT fk_final_training_digest_architecture FOREIGN KEY(digest) REFERENCES architecture (digest), 
	CONSTRAINT fk_final_training_study_id_study FOREIGN KEY(study_id) REFERENCES study (id), 
	CONSTRAINT uq_final_training_study_id_network_recipe_digest_seed UNIQUE (study_id, network, recipe_digest, seed)
);
INSERT INTO "final_training" VALUES(1,1,'a6b6a86bcb17774b00b8dee6975d3d0d12f3a17b7cbc9b90a0c5411bbc2e5654','a6b6a86bcb17774b00b8dee6975d3d0d12f3a17b7cbc9b90a0c5411bbc2e5654','090358b9af24710c0e7bfc4ad4792fb88d92b4c9a259b92f1690e8296a73fdb5','{"epochs":0.1,"training":{"batch_size":64,"learning_rate":0.4,"momentum":0.9,"weight_decay":0.0005,"label_smoothing":0.1,"warmup":0.25,"flip":true,"translate":4,"cutout":8,"precision":"auto","channels_last":null,"compile":false},"average":0.999,"teacher":null,"distillation":0.5,"temperature":4.0}',572589424,360,0.1,0.9,2.32111883163452148437e+00,128,2.49218019399995682761e+00,2.44571168000038596801e+00,'{"precision":"fp32","channels_last":false,"compile":false,"device":"cpu","torch":"2.14.1+cu130"}','before/final/6c46e71a2e1bb6c8-090358b9-572589424/weights.safetensors','2026-11-30 06:22:33.894849',NULL);
INSERT INTO "final_training" VALUES(2,1,'nas.model.cifar_osa:osa_5_43',NULL,'090358b9af24710c0e7bfc4ad4792fb88d92b4c9a259b92f1690e8296a73fdb5','{"epochs":0.1,"training":{"batch_size":64,"learning_rate":0.4,"momentum":0.9,"weight_decay":0.0005,"label_smoothing":0.1,"warmup":0.25,"flip":true,"translate":4,"cutout":8,"precision":"auto","channels_last":null,"compile":false},"average":0.999,"teacher":null,"distillation":0.5,"temperature":4.0}',658350864,360,0.1,0.9,3.40320348739624023437e+00,128,2.28873306539994700878e+01,20.1245951169999,'{"precision":"fp32","channels_last":false,"compile":false,"device":"cpu","torch":"2.14.1+cu130"}','before/final/5a88817f94b3df88-090358b9-658350864/weights.safetensors','2026-11-30 06:23:17.607848',NULL);
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
INSERT INTO "front" VALUES(1,0,1,8.22419999999999890884e+03,1,'2026-11-30 06:21:27.847076');
INSERT INTO "front" VALUES(1,1,2,9.23179999999999745339e+03,1,'2026-11-30 06:21:36.717678');
INSERT INTO "front" VALUES(1,2,3,9.44939999999999781683e+03,1,'2026-11-30 06:21:44.150840');
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
INSERT INTO "front_member" VALUES(1,1,0,1);
INSERT INTO "front_member" VALUES(1,2,0,2);
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
INSERT INTO "measurement" VALUES(1,1,'parameters','1',17758.0,17758.0,17758.0,'[]','counted','counted','ok','',NULL,NULL,'2026-11-30 06:21:11.905154','{}');
INSERT INTO "measurement" VALUES(2,1,'macs','1',3660928.0,3660928.0,3660928.0,'[]','counted','counted','ok','',NULL,NULL,'2026-11-30 06:21:11.905291','{}');
INSERT INTO "measurement" VALUES(3,1,'memory_access_cost','1',164966.0,164966.0,164966.0,'[]','counted','counted','ok','',NULL,NULL,'2026-11-30 06:21:11.905454','{}');
INSERT INTO "measurement" VALUES(4,2,'parameters','1',7682.0,7682.0,7682.0,'[]','counted','counted','ok','',NULL,NULL,'2026-11-30 06:21:28.174793','{}');
INSERT INTO "measurement" VALUES(5,2,'macs','1',1711424.0,1711424.0,1711424.0,'[]','counted','counted','ok','',NULL,NULL,'2026-11-30 06:21:28.175189','{}');
INSERT INTO "measurement" VALUES(6,2,'memory_access_cost','1',243794.0,243794.0,243794.0,'[]','counted','counted','ok','',NULL,NULL,'2026-11-30 06:21:28.175604','{}');
INSERT INTO "measurement" VALUES(7,3,'parameters','1',5506.0,5506.0,5506.0,'[]','counted','counted','ok','',NULL,NULL,'2026-11-30 06:21:37.018779','{}');
INSERT INTO "measurement" VALUES(8,3,'macs','1',1579328.0,1579328.0,1579328.0,'[]','counted','counted','ok','',NULL,NULL,'2026-11-30 06:21:37.018985','{}');
INSERT INTO "measurement" VALUES(9,3,'memory_access_cost','1',229954.0,229954.0,229954.0,'[]','counted','counted','ok','',NULL,NULL,'2026-11-30 06:21:37.019162','{}');
INSERT INTO "measurement" VALUES(10,4,'parameters','1',8758.0,8758.0,8758.0,'[]','counted','counted','ok','',NULL,NULL,'2026-11-30 06:21:44.445133','{}');
INSERT INTO "measurement" VALUES(11,4,'macs','1',2994496.0,2994496.0,2994496.0,'[]','counted','counted','ok','',NULL,NULL,'2026-11-30 06:21:44.445233','{}');
INSERT INTO "measurement" VALUES(12,4,'memory_access_cost','1',142150.0,142150.0,142150.0,'[]','counted','counted','ok','',NULL,NULL,'2026-11-30 06:21:44.445318','{}');
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
INSERT INTO "metric_context" VALUES(1,'parameters','1','counted',NULL,NULL,NULL);
INSERT INTO "metric_context" VALUES(1,'macs','1','counted',NULL,NULL,NULL);
INSERT INTO "metric_context" VALUES(1,'memory_access_cost','1','counted',NULL,NULL,NULL);
CREATE TABLE nas_schema_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT nas_schema_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "nas_schema_version" VALUES('0010');
CREATE TABLE objective (
	study_id INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	metric TEXT NOT NULL, 
	direction TEXT NOT NULL, 
	limit_value DOUBLE, 
	reference_value DOUBLE, 
	CONSTRAINT pk_objective PRIMARY KEY (study_id, position), 
	CONSTRAINT ck_objective_direction CHECK (direction IN ('minimize', 'maximize')), 
	CONSTRAINT fk_objective_study_id_study FOREIGN KEY(study_id) REFERENCES study (id), 
	CONSTRAINT uq_objective_study_id_metric UNIQUE (study_id, metric)
);
INSERT INTO "objective" VALUES(1,0,'error','minimize',NULL,1.0);
INSERT INTO "objective" VALUES(1,1,'parameters','minimize',NULL,100000.0);
CREATE TABLE replicate_rung (
	evaluation_id INTEGER NOT NULL, 
	seed BIGINT NOT NULL, 
	epochs DOUBLE NOT NULL, 
	error DOUBLE NOT NULL, 
	train_loss DOUBLE, 
	images BIGINT NOT NULL, 
	train_s DOUBLE NOT NULL, 
	validation_s DOUBLE NOT NULL, 
	numerics JSON NOT NULL, 
	checkpoint TEXT, 
	finished_at DATETIME NOT NULL, energy_j DOUBLE, 
	CONSTRAINT pk_replicate_rung PRIMARY KEY (evaluation_id, seed, epochs), 
	CONSTRAINT ck_replicate_rung_error CHECK (error >= 0 AND error <= 1), 
	CONSTRAINT fk_replicate_rung_evaluation_id_evaluation FOREIGN KEY(evaluation_id) REFERENCES evaluation (id)
);
CREATE TABLE rung (
	evaluation_id INTEGER NOT NULL, 
	epochs DOUBLE NOT NULL, 
	error DOUBLE NOT NULL, 
	train_loss DOUBLE, 
	images BIGINT NOT NULL, 
	train_s DOUBLE NOT NULL, 
	validation_s DOUBLE NOT NULL, 
	numerics JSON NOT NULL, 
	checkpoint TEXT, 
	finished_at DATETIME NOT NULL, 
	CONSTRAINT pk_rung PRIMARY KEY (evaluation_id, epochs), 
	CONSTRAINT ck_rung_error CHECK (error >= 0 AND error <= 1), 
	CONSTRAINT fk_rung_evaluation_id_evaluation FOREIGN KEY(evaluation_id) REFERENCES evaluation (id)
);
INSERT INTO "rung" VALUES(1,0.25,0.9,2.31763577461242675781e+00,320,5.16883862699978635646e+00,1.27146499799982848344e+00,'{"precision":"fp32","channels_last":false,"compile":false,"device":"cpu","threads":1,"torch":"2.14.1+cu130"}','before/dd33e4790271395c/rung-0.25.safetensors','2026-11-30 06:21:27.666793');
INSERT INTO "rung" VALUES(2,0.25,0.9,2.42378497123718261718e+00,320,6.90600739100045757368e+00,1.3747833279994665645e+00,'{"precision":"fp32","channels_last":false,"compile":false,"device":"cpu","threads":1,"torch":"2.14.1+cu130"}','before/82f52b599602e786/rung-0.25.safetensors','2026-11-30 06:21:36.567097');
INSERT INTO "rung" VALUES(3,0.25,0.9,2.31658506393432617187e+00,320,6.02637250000043422915e+00,9.31998001000465592369e-01,'{"precision":"fp32","channels_last":false,"compile":false,"device":"cpu","threads":1,"torch":"2.14.1+cu130"}','before/a6b6a86bcb17774b/rung-0.25.safetensors','2026-11-30 06:21:44.051488');
INSERT INTO "rung" VALUES(4,0.25,0.9,2.31854391098022460937e+00,320,3.42950660599944967543e+00,5.45385736000298493308e-01,'{"precision":"fp32","channels_last":false,"compile":false,"device":"cpu","threads":1,"torch":"2.14.1+cu130"}','before/d707642711725506/rung-0.25.safetensors','2026-11-30 06:21:48.480869');
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
INSERT INTO "single_measurement" VALUES(3,'nas.model.cifar_osa:osa_5_43',NULL,'peak_memory','B',8485660.0,8485660.0,8485660.0,'[8485660.0]','measured','weights, input and live tensors, without scratch memory of kernels','ok','',1,'93cde68358423698','2026-11-30 06:24:04.189963','{}');
CREATE TABLE study (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	spec JSON NOT NULL, 
	dataset TEXT NOT NULL, 
	classes INTEGER NOT NULL, 
	artifacts TEXT NOT NULL, 
	numerics JSON NOT NULL, 
	version TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_study PRIMARY KEY (id), 
	CONSTRAINT uq_study_name UNIQUE (name)
);
INSERT INTO "study" VALUES(1,'before','{"name":"before","space":"osa_tiny","objectives":[{"metric":"error","direction":"minimize","limit":null,"reference":1.0},{"metric":"parameters","direction":"minimize","limit":null,"reference":100000.0}],"sampler":"random","scores":[],"seed":1,"rungs":{"epochs":[0.25],"keep":null,"min_trials":4,"futility":false},"data":{"dataset":"digits","folder":null,"fallback":null,"validation_images":200,"train_images":null,"image_size":null},"training":{"batch_size":64,"learning_rate":0.4,"momentum":0.9,"weight_decay":0.0005,"label_smoothing":0.1,"warmup":0.25,"flip":true,"translate":2,"cutout":0,"precision":"fp32","channels_last":false,"compile":false},"measurement":{"batch_size":1,"image_size":32,"precision":"fp32","runtime":"eager","threads":1,"warmup_s":0.3,"block_s":0.02,"min_blocks":10,"min_time_s":0.3,"max_time_s":2.0,"max_half_width":0.02},"budget":{"trials":4,"wall_time_s":null,"proposals":null,"epochs":null,"device_s":null,"energy_j":null,"certify":null,"fresh":null},"workers":{"kind":"local","count":1,"cpus":1,"gpus":0.0,"retries":2}}','digits',10,'','{"data":{"dataset":"digits","folder":null,"fallback":null,"validation_images":200,"train_images":null,"image_size":null},"classes":["0","1","2","3","4","5","6","7","8","9"],"mean":[0.30486784832234914,0.30486784832234914,0.30486784832234914],"std":[0.3235589438082625,0.3235589438082625,0.3235589438082625],"image_size":32,"numerics":{"precision":"fp32","channels_last":false,"compile":false,"figures":[]},"device":{"class":"A CPU, 2 cores","name":"A CPU","identity":"cpu-1"},"warnings":[]}','0.1.0','2026-11-30 06:21:11.475110');
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
	finished_at DATETIME, 
	CONSTRAINT pk_trial PRIMARY KEY (study_id, number), 
	CONSTRAINT ck_trial_state CHECK (state IN ('running', 'complete', 'stopped', 'failed')), 
	CONSTRAINT ck_trial_duplicate_of CHECK (duplicate_of < number), 
	CONSTRAINT ck_trial_number CHECK (number >= 0), 
	CONSTRAINT fk_trial_evaluation_id_evaluation FOREIGN KEY(evaluation_id) REFERENCES evaluation (id), 
	CONSTRAINT fk_trial_study_id_duplicate_of_trial FOREIGN KEY(study_id, duplicate_of) REFERENCES trial (study_id, number), 
	CONSTRAINT fk_trial_study_id_study FOREIGN KEY(study_id) REFERENCES study (id)
);
INSERT INTO "trial" VALUES(1,0,1,NULL,'complete','','{"residual":true,"depthwise":false,"attention":"all","stage3.mid_channels":12,"stage3.num_layers":2,"stage4.num_blocks":2,"stage4.kernel_size":3}',NULL,'{}',504664336,'host:1','2026-11-30 06:21:11.695607','2026-11-30 06:21:27.759668');
INSERT INTO "trial" VALUES(1,1,2,NULL,'complete','','{"residual":true,"depthwise":true,"attention":"none","stage3.mid_channels":12,"stage3.num_layers":3,"stage4.num_blocks":2,"stage4.kernel_size":3}',NULL,'{}',1998361570,'host:1','2026-11-30 06:21:27.888237','2026-11-30 06:21:36.662299');
INSERT INTO "trial" VALUES(1,2,3,NULL,'complete','','{"residual":false,"depthwise":true,"attention":"none","stage3.mid_channels":12,"stage3.num_layers":3,"stage4.num_blocks":1,"stage4.kernel_size":3}',NULL,'{}',638863217,'host:1','2026-11-30 06:21:36.757328','2026-11-30 06:21:44.090903');
INSERT INTO "trial" VALUES(1,3,4,NULL,'complete','','{"residual":false,"depthwise":false,"attention":"none","stage3.mid_channels":8,"stage3.num_layers":2,"stage4.num_blocks":1,"stage4.kernel_size":3}',NULL,'{}',465859257,'host:1','2026-11-30 06:21:44.199601','2026-11-30 06:21:48.490838');
CREATE INDEX ix_trial_evaluation_id ON trial (evaluation_id);
CREATE UNIQUE INDEX uq_trial_original ON trial (evaluation_id) WHERE duplicate_of IS NULL;
CREATE VIEW current_measurement AS
SELECT m.id, m.evaluation_id, m.metric, m.unit, m.value, m.ci_low, m.ci_high, m.kind, m.method, m.status, m.reason,
       m.device_id, m.plan, m.started_at
FROM measurement m
WHERE m.id = (SELECT max(n.id) FROM measurement n WHERE n.evaluation_id = m.evaluation_id AND n.metric = m.metric);
CREATE VIEW last_rung AS
SELECT r.evaluation_id, r.epochs, r.error, r.train_loss, r.checkpoint, r.finished_at
FROM rung r
WHERE r.epochs = (SELECT max(q.epochs) FROM rung q WHERE q.evaluation_id = r.evaluation_id);
CREATE VIEW objective_value AS
SELECT t.study_id, t.number AS trial, o.position, o.metric, o.direction, o.limit_value,
       CASE WHEN o.metric = 'error' THEN r.error ELSE m.value END AS value,
       CASE WHEN o.metric = 'error' THEN NULL ELSE m.ci_low END AS ci_low,
       CASE WHEN o.metric = 'error' THEN NULL ELSE m.ci_high END AS ci_high,
       CASE WHEN o.metric = 'error' THEN '1' ELSE m.unit END AS unit
FROM trial t
JOIN objective o ON o.study_id = t.study_id
LEFT JOIN last_rung r ON r.evaluation_id = t.evaluation_id AND o.metric = 'error'
LEFT JOIN current_measurement m ON m.evaluation_id = t.evaluation_id AND m.metric = o.metric;
CREATE VIEW pareto AS
SELECT s.name AS study, p.position, p.trial, e.digest, v.metric, v.value, v.ci_low, v.ci_high, v.unit, v.direction,
       v.limit_value, f.feasible
FROM study s
JOIN front f ON f.study_id = s.id
JOIN front_member p ON p.study_id = f.study_id AND p.sequence = f.sequence
JOIN trial t ON t.study_id = p.study_id AND t.number = p.trial
JOIN evaluation e ON e.id = t.evaluation_id
JOIN objective_value v ON v.study_id = p.study_id AND v.trial = p.trial
WHERE f.sequence = (SELECT max(g.sequence) FROM front g WHERE g.study_id = f.study_id);
CREATE VIEW hypervolume_history AS
SELECT s.name AS study, f.finished_trials, f.hypervolume, f.feasible,
       (SELECT count(*) FROM front_member p WHERE p.study_id = f.study_id AND p.sequence = f.sequence) AS members,
       f.created_at
FROM study s
JOIN front f ON f.study_id = s.id
WHERE f.sequence = (SELECT max(g.sequence) FROM front g
                    WHERE g.study_id = f.study_id AND g.finished_trials = f.finished_trials);
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
CREATE INDEX ix_single_measurement_target ON single_measurement (target);
CREATE INDEX ix_trial_progress ON trial (study_id, state, duplicate_of, started_at, finished_at);
COMMIT;
