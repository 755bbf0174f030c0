"""The only door to Label Studio: client, label config, queue, labels and backend row; nothing here selects."""
