"""What serving needs beside the network: preprocessing, class names, class order."""
