"""All access to Label Studio: client, label config, queue, labels and ML backend."""
