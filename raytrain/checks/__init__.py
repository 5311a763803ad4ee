"""What `raytrain.doctor` looks at, a module a subject; each check gives findings."""
