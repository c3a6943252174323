-- Spreads Countersign's tables over the nodes of a Citus cluster: people, their events and messages by person, so that a
-- verification stays on one node; names and what hangs on nobody by their own keys; what is small is everywhere.
SELECT create_distributed_table('users', 'id');
SELECT create_distributed_table('audit', 'subject', colocate_with => 'users');
SELECT create_distributed_table('anchors', 'subject', colocate_with => 'users');
SELECT create_distributed_table('deliveries', 'owner', colocate_with => 'users');
SELECT create_distributed_table('organisations', 'id', colocate_with => 'users');
SELECT create_distributed_table('people_names', 'id', colocate_with => 'users');
SELECT create_distributed_table('names', 'key', colocate_with => 'none');
SELECT create_distributed_table('people_blocks', 'organisation', colocate_with => 'none');
SELECT create_distributed_table('destinations', 'key', colocate_with => 'none');
SELECT create_distributed_table('clients', 'id', colocate_with => 'none');
SELECT create_distributed_table('revoked', 'token', colocate_with => 'none');
SELECT create_reference_table('checkpoints');
SELECT create_reference_table('meta');
SELECT create_reference_table('decoy');
SELECT create_reference_table('nodes');
SELECT create_reference_table('timelines');
SELECT create_reference_table('turns');
SELECT create_reference_table('migrations');
