"""What can be said of photos before anything is computed: `tfwsss init` proposes a configuration, `tfwsss data check` examines one."""
