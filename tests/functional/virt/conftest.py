from tests.fixtures.xen_bench import bench, make_bench, make_conf, plugins, shared_simulator, simulator, spare_confs

__all__ = ["bench", "make_bench", "make_conf", "plugins", "shared_simulator", "simulator", "spare_confs"]
