import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;

/** Java's client with its defaults, which offers `Upgrade: h2c` with every request. */
public class DefaultClient {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        String url = arguments[0];
        String payment = arguments[2];
        String batch = "{\"transactions\":[" + payment + "]}";
        String label = "{\"label\":\"fraud\"}";
        String[][] requests = {
            {"POST", "/v1/transactions", payment},
            {"POST", "/v1/transactions/batch", batch},
            {"PUT", "/v1/transactions/java-1/label", label},
            {"GET", "/v1/transactions/java-1", ""},
            {"DELETE", "/v1/transactions/java-1/label", ""},
        };
        for (String[] one : requests) {
            HttpRequest request = HttpRequest.newBuilder(URI.create(url + one[1]))
                .header("Authorization", "Bearer " + arguments[1])
                .header("Content-Type", "application/json")
                .method(one[0], one[2].isEmpty() ? BodyPublishers.noBody() : BodyPublishers.ofString(one[2]))
                .build();
            System.out.println(client.send(request, BodyHandlers.ofString()).statusCode());
        }
    }
}
